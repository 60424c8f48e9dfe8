"""What a schema can't say: cursors come from answers, columns from the data.

Loaded by schemathesis (SCHEMATHESIS_HOOKS). Requests that are meant to be right get values that
can be; requests that are meant to be wrong stay as they are.
"""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, object]
) -> None:
    """Takes away made-up cursors and columns, and one of two names for the same thing."""
    if case.meta is None or not case.meta.generation.mode.is_positive or not case.query:
        return
    for made_up in ("cursor", "columns"):
        case.query.pop(made_up, None)
    if "limit" in case.query:
        case.query.pop("length", None)
