"""What the routes need, built once at start."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from libs.common.bus import Bus
from libs.stores import Access
from libs.warehouse import RunDirs
from services.ingest.requests import Requests
from services.ingest.settings import IngestSettings
from services.ingest.tus.resumable import Resumable
from services.ingest.uploads import Uploads


@dataclass(frozen=True)
class Wiring:
    """The running parts of the service."""

    settings: IngestSettings
    bus: Bus
    warehouse: RunDirs
    access: Access
    requests: Requests
    uploads: Uploads
    resumable: Resumable


def wiring(request: Request) -> Wiring:
    """A dependency of every route."""
    found: Wiring = request.app.state.wiring
    return found
