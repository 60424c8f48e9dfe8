"""What `oneblock up` was asked for."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.home import Home


def default_roots() -> tuple[Path, ...]:
    """Where `file://` may point to: what belongs to the person who starts the stack."""
    found = (Path.home(), Path.cwd(), Path(tempfile.gettempdir()))
    return tuple(dict.fromkeys(p.resolve() for p in found))


@dataclass(frozen=True)
class Options:
    """One stack to run."""

    home: Home
    ports: dict[str, int]
    stack: str  # its id, see deploy.local.home.stack_id
    ray: bool = True
    host: str = "127.0.0.1"  # of the catalog and ingest; elsewhere only with tokens
    roots: tuple[Path, ...] = field(default_factory=default_roots)

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.ports['nats']}"

    def url(self, service: str) -> str:
        """Where people on this machine reach a service."""
        return f"http://127.0.0.1:{self.ports[service]}"

    @property
    def takeover(self) -> float:
        """Seconds after which the work of a process that died is taken over by another.

        Short on one machine, where no network can keep the two apart.
        """
        return float(os.environ.get("ONEBLOCK_LEASE_TTL") or 10)

    @property
    def tokens(self) -> bool:
        """Whether the services will ask for tokens."""
        return bool(os.environ.get("ONEBLOCK_TOKENS_FILE"))
