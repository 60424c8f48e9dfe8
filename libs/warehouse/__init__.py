"""The warehouse: where datasets, their versions and their runs' files live.

Names are imported when they are first used: a service that keeps only runs' files (`RunDirs`)
never loads Lance.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libs.warehouse.fragments import write_fragments
    from libs.warehouse.inventory import InventoryFile, InventoryWriter, Summary
    from libs.warehouse.reader import Reader
    from libs.warehouse.rundirs import RunDirs
    from libs.warehouse.runlog import RunLog
    from libs.warehouse.versions import Commit, Version
    from libs.warehouse.warehouse import Warehouse

_HOME = {
    "Commit": "versions",
    "InventoryFile": "inventory",
    "InventoryWriter": "inventory",
    "Reader": "reader",
    "RunDirs": "rundirs",
    "RunLog": "runlog",
    "Summary": "inventory",
    "Version": "versions",
    "Warehouse": "warehouse",
    "write_fragments": "fragments",
}

__all__ = [
    "Commit",
    "InventoryFile",
    "InventoryWriter",
    "Reader",
    "RunDirs",
    "RunLog",
    "Summary",
    "Version",
    "Warehouse",
    "write_fragments",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
