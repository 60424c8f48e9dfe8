"""Makes `oneblock.sync` from `oneblock.aio`; `--check` only says whether it is up to date.

Run as `python -m libs.sdk.generate`. `ground.py` holds what can't be translated and is written
by hand in both.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent / "oneblock" / "aio"
TARGET = Path(__file__).parent / "oneblock" / "sync"
BY_HAND = "ground.py"

WORDS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(Client|Transport|Waiting|Sending|Iterator|Http)\b", r"\1"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(close|read|iter_lines)\b", r"\1"),
    (r"\boneblock\.aio\b", "oneblock.sync"),
]


def translate(text: str) -> str:
    """The synchronous twin of an asynchronous module."""
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    first, _, rest = text.partition("\n")
    note = "# Made from oneblock.aio by `python -m libs.sdk.generate`; change that instead."
    return formatted(f"{first}\n\n{note}\n{rest}")


def formatted(text: str) -> str:
    """As `ruff` leaves it: removing words changes where lines break and how imports sort."""
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        argv = [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--stdin-filename",
            str(TARGET / "x.py"),
            "-",
        ]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
        text = done.stdout
    return text


def wanted() -> dict[Path, str]:
    """What every generated module should hold."""
    sources = [p for p in sorted(SOURCE.glob("*.py")) if p.name != BY_HAND]
    made = {TARGET / p.name: translate(p.read_text()) for p in sources}
    made[TARGET / "__init__.py"] = '"""The synchronous client, made from `oneblock.aio`."""\n'
    return made


def main(arguments: list[str]) -> int:
    """Writes what differs, or with `--check` names it and fails."""
    stale = [(p, t) for p, t in wanted().items() if not p.exists() or p.read_text() != t]
    if "--check" in arguments:
        for path, _ in stale:
            print(f"{path}: out of date; run `python -m libs.sdk.generate`")
        return 1 if stale else 0
    for path, text in stale:
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
