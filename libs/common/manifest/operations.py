"""Arguments of the built-in operations, so that a manifest is checked when it is accepted.

What an operation does with them is transform's business; here is only what may be written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from libs.common.errors import Problem
from libs.common.manifest.values import join
from libs.common.manifest.words import described, problem_of

SYSTEM_COLUMNS = ("_row", "_hash", "_source")
CastType = Literal[
    "bool",
    "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
    "float32", "float64",
    "string", "binary", "date", "timestamp",
]  # fmt: skip
SYNONYMS: dict[str, CastType] = {
    "boolean": "bool", "int": "int64", "integer": "int64", "long": "int64", "short": "int16",
    "float": "float64", "double": "float64", "str": "string", "text": "string", "utf8": "string",
    "bytes": "binary", "date32": "date", "datetime": "timestamp",
}  # fmt: skip


def _column(name: str) -> str:
    if not name:
        raise PydanticCustomError("invalid_value", "a column's name must not be empty")
    if name in SYSTEM_COLUMNS:
        raise PydanticCustomError(
            "invalid_value", "{name} is a system column, kept as it is", {"name": name}
        )
    return name


def _distinct(names: list[str]) -> list[str]:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise PydanticCustomError(
            "invalid_value", "the column '{name}' is named twice", {"name": twice[0][:80]}
        )
    return names


def _distinct_values(columns: dict[str, str]) -> dict[str, str]:
    _distinct(list(columns.values()))
    return columns


def _condition(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("invalid_value", "must be an SQL condition such as price > 10")
    return text


def _columns_of(value: object) -> object:
    """`dedupe: all` (or nothing) compares whole rows; one name is a list of one."""
    if value is None or value == "all":
        return []
    return [value] if isinstance(value, str) else value


def _exact(value: object) -> object:
    """A type by its name in the contract; `int` and `double` are understood too."""
    return SYNONYMS.get(value.lower(), value.lower()) if isinstance(value, str) else value


Column = Annotated[str, AfterValidator(_column)]
Columns = Annotated[list[Column], AfterValidator(_distinct), Field(max_length=10_000)]
_STRICT = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)


class Filter(RootModel[Annotated[str, AfterValidator(_condition), Field(max_length=10_000)]]):
    """Keep the rows for which this SQL condition over the columns is true."""

    model_config = _STRICT


class Select(RootModel[Annotated[Columns, Field(min_length=1)]]):
    """Keep these columns, in this order."""

    model_config = _STRICT


class Rename(
    RootModel[
        Annotated[dict[Column, Column], AfterValidator(_distinct_values), Field(min_length=1)]
    ]
):
    """New names of columns: {old: new}."""

    model_config = _STRICT


class Cast(
    RootModel[
        Annotated[dict[Column, Annotated[CastType, BeforeValidator(_exact)]], Field(min_length=1)]
    ]
):
    """New types of columns: {column: type}; a value that doesn't fit fails the run."""

    model_config = _STRICT


class Dedupe(RootModel[Annotated[Columns, BeforeValidator(_columns_of)]]):
    """Keep the first row of those that are equal in these columns ([] or all: in every column)."""

    model_config = _STRICT


class Repartition(RootModel[Annotated[int, Field(ge=1, le=10_000)]]):
    """Spread the rows over this many parts of about the same size."""

    model_config = _STRICT


class Later(RootModel[Annotated[JsonValue, WithJsonSchema({})]]):
    """An operation of the contract that this release doesn't have yet."""

    model_config = _STRICT


OPERATIONS: dict[str, type[BaseModel]] = {  # by name, in the order of the docs
    "filter": Filter,
    "select": Select,
    "rename": Rename,
    "cast": Cast,
    "dedupe": Dedupe,
    "repartition": Repartition,
    "chunk": Later,
    "embed": Later,
    "sql": Later,
    "sample": Later,
    "shuffle": Later,
    "split": Later,
    "fill": Later,
    "normalize_text": Later,
    "resize_image": Later,
}


def problems(step: object, path: str) -> Iterator[Problem]:
    """What is wrong with one item of `spec.transform`."""
    if not isinstance(step, Mapping) or len(step) != 1:
        names = ", ".join(map(str, step)) if isinstance(step, Mapping) else described(step)
        yield Problem(
            "invalid_value",
            f"one operation per item, as {{name: arguments}}, not {names or 'none'}"[:200],
            path,
        )
        return
    ((name, arguments),) = step.items()
    if name not in OPERATIONS:
        yield Problem("unknown_op", _unknown(str(name)), join(path, str(name)))
        return
    try:
        OPERATIONS[name].model_validate(arguments)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            yield problem_of(found, join(path, name), arguments)


def _unknown(name: str) -> str:
    near = get_close_matches(name[:80], OPERATIONS, n=2)
    hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    return f"unknown operation {name[:80]!r}{hint}; known: {', '.join(OPERATIONS)}"


CAST_TYPES: tuple[str, ...] = get_args(CastType)
