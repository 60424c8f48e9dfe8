"""The error that carries all problems of one manifest."""

from __future__ import annotations

from collections.abc import Iterable

from libs.common.errors import PermanentError, Problem


class ManifestError(PermanentError):
    """A manifest that can't be accepted; `problems` names everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        every = tuple(problems)
        said = "; ".join(str(problem) for problem in every[:3])
        more = f"; and {len(every) - 3} more" if len(every) > 3 else ""
        super().__init__(
            f"the manifest has {count(len(every))}: {said}{more}",
            code="invalid_manifest",
            problems=every,
        )


def count(problems: int) -> str:
    """`1 problem`, `2 problems`."""
    return f"{problems} problem" + ("" if problems == 1 else "s")
