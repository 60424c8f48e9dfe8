"""The client of OneBlock Data: `oneblock.Client()`, and `AsyncClient()` for asynchronous code."""

from oneblock.aio.client import AsyncClient
from oneblock.errors import (
    ApiError,
    FieldError,
    InvalidFile,
    NotRunning,
    OneBlockError,
    RunFailed,
    WaitTimeout,
)
from oneblock.models import Accepted, Dataset, LogLine, Page, Row, Run, Stage, Upload, Version
from oneblock.sync.client import Client

__version__ = "0.1.0"

__all__ = [
    "Accepted",
    "ApiError",
    "AsyncClient",
    "Client",
    "Dataset",
    "FieldError",
    "InvalidFile",
    "LogLine",
    "NotRunning",
    "OneBlockError",
    "Page",
    "Row",
    "Run",
    "RunFailed",
    "Stage",
    "Upload",
    "Version",
    "WaitTimeout",
]
