"""`python -m oneblock` is the command line."""

from oneblock.cli import main

main()
