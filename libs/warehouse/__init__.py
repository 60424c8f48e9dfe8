"""The warehouse: where datasets, their versions and their runs' files live."""

from libs.warehouse.fragments import write_fragments
from libs.warehouse.inventory import InventoryFile, InventoryWriter
from libs.warehouse.reader import Reader
from libs.warehouse.runlog import RunLog
from libs.warehouse.versions import Commit, Version
from libs.warehouse.warehouse import Warehouse

__all__ = [
    "Commit",
    "InventoryFile",
    "InventoryWriter",
    "Reader",
    "RunLog",
    "Version",
    "Warehouse",
    "write_fragments",
]
