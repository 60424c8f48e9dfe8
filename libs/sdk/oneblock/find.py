"""Where the services are: given, from the environment, or from a running stack's folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from oneblock.errors import NotRunning
from oneblock.home import home_folder, is_running, read_state


@dataclass(frozen=True)
class Stack:
    """Addresses and token; `ingest` may be empty: then the catalog is asked for it."""

    catalog: str
    ingest: str = ""
    token: str = ""
    home: Path | None = None  # of the local stack, when it was found by its folder

    def supervised(self) -> bool:
        """Whether somebody restarts a service of this stack that doesn't answer."""
        return self.home is not None and is_running(self.home)


def find_stack(
    home: str | os.PathLike[str] | None = None,
    catalog_url: str | None = None,
    ingest_url: str | None = None,
    token: str | None = None,
) -> Stack:
    """What was given wins, then ONEBLOCK_CATALOG_URL and _INGEST_URL, then the home's state."""
    token = token or os.environ.get("ONEBLOCK_TOKEN", "")
    if catalog_url or ingest_url:
        return Stack(_base(catalog_url), _base(ingest_url), token)
    catalog, ingest = (os.environ.get(f"ONEBLOCK_{s}_URL") for s in ("CATALOG", "INGEST"))
    if (catalog or ingest) and home is None:
        return Stack(_base(catalog), _base(ingest), token)
    return _local(home_folder(home), token)


def _local(folder: Path, token: str) -> Stack:
    endpoints = read_state(folder).get("endpoints") or {}
    if not endpoints.get("catalog"):
        raise NotRunning(
            f"no stack runs in {folder}",
            hint="start one with `oneblock up`, or set ONEBLOCK_CATALOG_URL, ONEBLOCK_INGEST_URL",
        )
    return Stack(_base(endpoints["catalog"]), _base(endpoints.get("ingest")), token, folder)


def _base(url: str | None) -> str:
    return (url or "").rstrip("/")
