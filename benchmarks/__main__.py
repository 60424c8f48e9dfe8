"""Every benchmark, each in a process of its own; `make bench` runs them all.

`python -m benchmarks [NAME …] [--quick]`: `--quick` takes a tenth of the input.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

FULL: dict[str, tuple[str, ...]] = {
    "start": ("--requests", "20"),
    "throughput": ("--bytes", "1000000000", "--pairs", "3"),
    "rows": ("--rows", "10000000"),
    "memory": ("--small", "1", "--large", "10"),
    "formats": (),
    "stores": ("--keys", "100000"),
    "uploads": (),
    "files": (),
    "tfrecords": (),
}
QUICK: dict[str, tuple[str, ...]] = {
    "start": ("--requests", "8"),
    "throughput": ("--bytes", "200000000", "--pairs", "2"),
    "rows": ("--rows", "1000000"),
    "memory": ("--small", "0.1", "--large", "1"),
    "stores": ("--keys", "10000"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(FULL)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the input")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(FULL)):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(FULL)}")
    failed = []
    for name in asked.names or FULL:
        arguments = (QUICK if asked.quick else FULL).get(name, ())
        print(f"\n== {name} {' '.join(arguments)}", flush=True)
        begun = time.monotonic()
        done = subprocess.run((sys.executable, "-m", f"benchmarks.{name}", *arguments))
        print(f"   ({time.monotonic() - begun:.0f} s)", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        sys.exit(f"ended with an error: {', '.join(failed)}")


if __name__ == "__main__":
    main()
