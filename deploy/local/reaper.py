"""Ends what is left of a stack when its supervisor is gone, however it went.

`python -m deploy.local.reaper STACK`: waits until its standard input closes, which the system
does for a killed supervisor too.
"""

from __future__ import annotations

import signal
import sys

from deploy.local.process import clear


def main(stack: str) -> None:
    """Blocks until the supervisor has gone, then clears up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    clear(stack)


if __name__ == "__main__":
    main(sys.argv[1])
