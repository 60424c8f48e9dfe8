"""The command line, `oneblock`."""

from oneblock.cli.main import main

__all__ = ["main"]
