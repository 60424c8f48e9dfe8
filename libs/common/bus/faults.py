"""What the NATS driver raises, translated into our two kinds of error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from nats import errors as core
from nats.js import errors as js

from libs.common.errors import OneBlockError, PermanentError, TransientError

T = TypeVar("T")
TIMEOUT = 6.0  # seconds after which a question to the server has failed
TRY = 1.5  # seconds after which it is asked again: it may have been lost with a connection
PAUSE = 0.1  # seconds between two tries
TOO_LARGE = 10054  # JSStreamMessageExceedsMaximumErr
NO_ROOM = frozenset({10023, 10047, 10077})  # insufficient resources, storage, stream full


class BusUnreachable(OneBlockError):
    """NATS can't be reached when a service starts; says where and what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="bus_unreachable")


class BusNotMigrated(OneBlockError):
    """Streams, consumers or buckets on the server are not as declared."""

    def __init__(self, drift: list[str]) -> None:
        listed = "\n  ".join(drift)
        super().__init__(
            f"NATS is not set up as this release needs it:\n  {listed}\n"
            "run `oneblock admin migrate` (or `python -m libs.common.bus.admin`)",
            code="bus_not_migrated",
        )


class Conflict(Exception):
    """Somebody else changed the key first; read again and decide again."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise our errors for the driver's; `what` says what was attempted."""
    try:
        yield
    except js.KeyWrongLastSequenceError as error:
        raise Conflict(what) from error
    except core.MaxPayloadError as error:
        raise too_large(what) from error
    except js.APIError as error:
        raise _refused(what, error) from error
    except (core.Error, TimeoutError, OSError) as error:
        raise _unavailable(f"{what}: NATS doesn't answer ({_said(error)})") from error


async def patiently(what: str, ask: Callable[[float], Awaitable[T]]) -> T:
    """Ask until there is an answer or TIMEOUT is over; `ask` gets the seconds of one try.

    Only for what may be asked twice.
    """
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            with translated(what):
                return await ask(TRY)
        except TransientError:
            if time.monotonic() + PAUSE > deadline:
                raise
            await asyncio.sleep(PAUSE)


def too_large(what: str) -> PermanentError:
    return PermanentError(
        f"{what}: the message is larger than NATS takes (1 MB); send a reference to the data",
        code="message_too_large",
    )


def _refused(what: str, error: js.APIError) -> OneBlockError | Conflict:
    if error.err_code in (10071, 10164):
        return Conflict(what)
    if error.err_code == TOO_LARGE:
        return too_large(what)
    if error.err_code in NO_ROOM:
        said = f"{what}: NATS has no room left ({error.description}); free disk space"
        return TransientError(said, code="bus_full")
    if isinstance(error, js.NotFoundError):
        return _unavailable(f"{what}: NATS lost a stream or bucket ({_said(error)})")
    return _unavailable(f"{what}: NATS refused ({_said(error)})")


def _unavailable(detail: str) -> TransientError:
    return TransientError(detail, code="bus_unavailable")


def _said(error: BaseException) -> str:
    description = getattr(error, "description", None)
    return str(description or error).removeprefix("nats: ") or type(error).__name__
