"""The two kinds of error, and how a problem is told to a person."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and a stable code for programs."""

    code: str
    detail: str
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}" if self.path else self.detail


class OneBlockError(Exception):
    """Something that went wrong and that a person can be told about."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        path: str | None = None,
        problems: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.path = path
        self.problems = problems or (Problem(code, detail, path),)


class PermanentError(OneBlockError):
    """Asking again can't help: a malformed manifest, an absent file, a schema that doesn't fit."""


class TransientError(OneBlockError):
    """Asking again later can help: a timeout, a 503, a lost connection."""


class LeaseLost(OneBlockError):
    """Somebody else works on this run now; whoever gets this stops writing at once."""

    def __init__(self, run: str) -> None:
        super().__init__(f"run {run} was taken over by another attempt", code="lease_lost")


class Cancelled(OneBlockError):
    """A person asked for this run to stop."""

    def __init__(self, run: str) -> None:
        super().__init__(f"run {run} was cancelled", code="cancelled")
