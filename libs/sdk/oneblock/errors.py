"""What can go wrong for a caller; each error says what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class OneBlockError(Exception):
    """Something that went wrong and that a person can be told about."""

    code = "error"

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class NotRunning(OneBlockError):
    """Nobody answers where the stack should be."""

    code = "not_running"


class InvalidFile(OneBlockError):
    """A local file that can't be read, or isn't what it should be."""

    code = "invalid_file"


class WaitTimeout(OneBlockError):
    """The run is still going on; only the waiting ended."""

    code = "wait_timeout"


@dataclass(frozen=True)
class FieldError:
    """One problem of a request, with the place it is at."""

    detail: str
    path: str = ""
    code: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}" if self.path else self.detail


class ApiError(OneBlockError):
    """A service refused; `status` and `code` are RFC 9457's, `errors` all that is wrong."""

    def __init__(self, status: int, problem: Mapping[str, object], *, hint: str = "") -> None:
        title = str(problem.get("title") or f"HTTP {status}")
        super().__init__(str(problem.get("detail") or title), hint=hint)
        self.status = status
        self.title = title
        self.code = str(problem.get("type") or "").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        self.problem = problem
        self.errors = _field_errors(problem.get("errors"))


class RunFailed(OneBlockError):
    """A run that was waited for came to another end than a good one."""

    def __init__(self, run: str, state: str, code: str, detail: str) -> None:
        self.run = run
        self.state = state
        self.code = code or state
        super().__init__(
            f"{run} {state}" + (f": {detail}" if detail else ""),
            hint=f"see why with `oneblock logs {run}`, try again with `oneblock retry {run}`",
        )


def _field_errors(found: object) -> tuple[FieldError, ...]:
    if not isinstance(found, Sequence) or isinstance(found, str):
        return ()
    return tuple(
        FieldError(
            str(item.get("detail") or item.get("message") or ""),
            str(item.get("path") or ""),
            str(item.get("code") or ""),
        )
        for item in found
        if isinstance(item, Mapping)
    )
