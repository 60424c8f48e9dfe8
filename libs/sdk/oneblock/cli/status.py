"""`oneblock status`: how the stack of this machine is."""

from __future__ import annotations

import sys

from oneblock.cli.options import Form, Home, Output
from oneblock.cli.output import print_json, print_table
from oneblock.home import home_folder, read_state


def status(output: Output = Form.table, home: Home = None) -> None:
    """How the stack of this machine is."""
    folder = home_folder(home)
    state = read_state(folder)
    shape = {"state": "down", "endpoints": {}, "services": {}, "home": str(folder), **state}
    if output is Form.json:
        print_json(shape)
    else:
        print(f"{shape['state']}  {folder}")
        print_table(
            ("SERVICE", "STATE", "PID", "RESTARTS", "WHERE", "DETAIL"),
            [
                (
                    name,
                    s.get("state"),
                    s.get("pid"),
                    s.get("restarts"),
                    s.get("url"),
                    s.get("detail"),
                )
                for name, s in shape["services"].items()
            ],
        )
    if shape["state"] == "down":
        print("start it with `oneblock up`", file=sys.stderr)
