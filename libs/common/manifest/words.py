"""What pydantic found, said in the words of somebody who writes YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from pydantic_core import ErrorDetails

from libs.common.errors import Problem
from libs.common.manifest.values import join

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
OWN = frozenset({
    "invalid_value", "invalid_name", "inline_secret", "userinfo_forbidden", "url_forbidden",
    "unsupported_version",
})  # fmt: skip


def problem_of(found: ErrorDetails, root: str, value: object) -> Problem:
    """One pydantic error as a Problem; `value` is what was validated, at the path `root`."""
    path = path_of(found["loc"], root, value)
    kind, context = found["type"], found.get("ctx", {})
    if kind in OWN:
        return Problem(kind, found["msg"], path)
    if kind == "missing":
        return Problem("missing_field", "missing", path)
    if kind == "literal_error":
        return Problem("invalid_value", unknown(found["input"], _expected(context)), path)
    if kind in _WANTED:
        said = f"must be {_WANTED[kind]}, not {described(found['input'])}"
        return Problem("invalid_value", said, path)
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        said = f"must be {words} {context[key]:g}, not {found['input']}"
        return Problem("invalid_value", said, path)
    if kind in ("too_short", "string_too_short"):
        return Problem("invalid_value", "must not be empty", path)
    if kind in ("too_long", "string_too_long"):
        return Problem("invalid_value", f"too long: at most {context['max_length']}", path)
    return Problem("invalid_value", found["msg"], path)


def path_of(loc: tuple[int | str, ...], root: str, value: object) -> str:
    """`spec.destination[1].url`; a thing written without a list around it has no index."""
    path = root
    for step in loc:
        if step == "[key]":
            continue
        if isinstance(step, int):
            if not isinstance(value, list):
                continue
            value = value[step] if step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
        path = join(path, step)
    return path


def _expected(context: Mapping[str, object]) -> list[str]:
    """The values of a Literal, from pydantic's "'a', 'b' or 'c'"."""
    return sorted(re.findall(r"'([^']*)'", str(context["expected"])))


def unknown(value: object, known: list[str]) -> str:
    """`unknown 'xls'; known: csv, image, …`, with the nearest name."""
    if not isinstance(value, str):
        return f"must be one of {', '.join(known)}; not {described(value)}"
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(value[:80].lower(), by_lower, n=1)
    hint = f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
    return f"unknown {value[:60]!r}{hint}; known: {', '.join(known)}"


def described(value: object) -> str:
    """What kind of value this is, and short ones themselves."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value:.40}" if isinstance(value, float) else f"the number {value}"
    if isinstance(value, str):
        return "text"
    return "a mapping" if isinstance(value, Mapping) else "a list"
