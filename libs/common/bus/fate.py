"""Which run a failing handler stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from libs.common.events import Fact, IngestRequested
from libs.common.ids import run_id

_CHARGED = "__oneblock_run__"


@contextmanager
def charged(run: str) -> Iterator[None]:
    """Whatever fails inside the block fails `run`, whichever message was being handled.

    For a handler that works on another run than its message names: a waiting run that is started
    when the one before it ends, or a request whose run id comes from an idempotency key.
    """
    try:
        yield
    except Exception as error:
        if not hasattr(error, _CHARGED):
            setattr(error, _CHARGED, run)
        raise


def charged_run(error: BaseException | None) -> str | None:
    """The run that `charged` named."""
    return getattr(error, _CHARGED, None)


def run_of(fact: Fact | None, message_id: str) -> str | None:
    """The run that a message is about."""
    if isinstance(fact, IngestRequested):
        return run_id(message_id)
    return getattr(fact, "run", None)
