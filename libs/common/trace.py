"""W3C trace context: who caused what, from one message to the next.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True)
class Trace:
    """One span: `id` is shared by everything one request caused."""

    id: str  # 32 hex digits
    span: str  # 16 hex digits
    flags: str = "01"

    @property
    def parent(self) -> str:
        """The `traceparent` that names this span as the parent of what follows."""
        return f"00-{self.id}-{self.span}-{self.flags}"

    def child(self) -> Trace:
        """A new span of the same trace."""
        return Trace(self.id, secrets.token_hex(8), self.flags)


_current: ContextVar[Trace | None] = ContextVar("oneblock_trace", default=None)


def start() -> Trace:
    """The first span of a new trace."""
    return Trace(secrets.token_hex(16), secrets.token_hex(8))


def parse(header: str | None) -> Trace | None:
    """The span that a `traceparent` names; None where it is absent or malformed."""
    found = _FORM.fullmatch((header or "").strip())
    if found is None or found[1] == "ff" or not int(found[2], 16) or not int(found[3], 16):
        return None
    return None if found[1] == "00" and found[5] else Trace(found[2], found[3], found[4])


def current() -> Trace | None:
    """The span this code runs in."""
    return _current.get()


def outgoing() -> str:
    """`traceparent` for a message sent from here; begins a trace where there is none."""
    here = current()
    return (here.child() if here else start()).parent


@contextmanager
def bind(header: str | None) -> Iterator[Trace]:
    """Run the block as a child of what `header` names, or as the start of a new trace."""
    parent = parse(header)
    trace = parent.child() if parent else start()
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)
