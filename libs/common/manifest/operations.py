"""Arguments of the built-in operations, so that a manifest is checked when it is accepted.

What an operation does with them is transform's business; here is only what may be written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated

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
from libs.common.manifest.words import described, problem_of, unknown

SYSTEM_COLUMNS = ("_row", "_hash", "_source")
CAST_TYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float32", "float64", "string", "binary", "date", "time", "timestamp", "timestamptz",
)  # fmt: skip
SYNONYMS = {
    "boolean": "bool", "tinyint": "int8", "smallint": "int16", "int": "int64", "integer": "int64",
    "bigint": "int64", "long": "int64", "real": "float32", "float": "float64",
    "double": "float64", "str": "string", "text": "string", "varchar": "string",
    "bytes": "binary", "datetime": "timestamp",
}  # fmt: skip
_DECIMAL = re.compile(r"(?:decimal|numeric)\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\)")


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


def _listed(value: object) -> object:
    """One column's name is a list of one."""
    return [value] if isinstance(value, str) else value


def _listed_or_all(value: object) -> object:
    """`dedupe: all`, or nothing, compares whole rows."""
    return [] if value is None or value == "all" else _listed(value)


def _type(name: str) -> str:
    """A type by its name in the contract, which knows `int` and `double` under other names."""
    lower = name.strip().lower()
    if (exact := SYNONYMS.get(lower, lower)) in CAST_TYPES:
        return exact
    decimal = _DECIMAL.fullmatch(lower)
    if decimal and 1 <= int(decimal[1]) <= 38 and int(decimal[2] or 0) <= int(decimal[1]):
        return f"decimal({int(decimal[1])},{int(decimal[2] or 0)})"
    detail = unknown(name, [*CAST_TYPES, "decimal(p,s)"])
    raise PydanticCustomError("invalid_value", "{detail}", {"detail": detail})


Column = Annotated[str, AfterValidator(_column)]
Columns = Annotated[list[Column], Field(max_length=10_000), AfterValidator(_distinct)]
Type = Annotated[
    str,
    AfterValidator(_type),
    WithJsonSchema(
        {"anyOf": [{"enum": [*CAST_TYPES, *SYNONYMS]}, {"pattern": "^(decimal|numeric)"}]}
    ),
]
_STRICT = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)


class Filter(RootModel[Annotated[str, Field(max_length=10_000), AfterValidator(_condition)]]):
    """Keep the rows for which this SQL condition over the columns is true."""

    model_config = _STRICT


class Select(
    RootModel[
        Annotated[
            list[Column],
            Field(min_length=1, max_length=10_000),
            AfterValidator(_distinct),
            BeforeValidator(_listed),
        ]
    ]
):
    """Keep these columns, in this order."""

    model_config = _STRICT


class Rename(
    RootModel[
        Annotated[dict[Column, Column], Field(min_length=1), AfterValidator(_distinct_values)]
    ]
):
    """New names of columns: {old: new}."""

    model_config = _STRICT


class Cast(RootModel[Annotated[dict[Column, Type], Field(min_length=1)]]):
    """New types of columns: {column: type}; a value that doesn't fit fails the run."""

    model_config = _STRICT


class Dedupe(RootModel[Annotated[Columns, BeforeValidator(_listed_or_all)]]):
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


def normalised(step: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The step with its arguments in one spelling; one that isn't valid stays as it is."""
    try:
        return {
            name: OPERATIONS[name].model_validate(arguments).model_dump(mode="json")
            for name, arguments in step.items()
        }
    except (KeyError, ValidationError):
        return step


def _unknown(name: str) -> str:
    near = get_close_matches(name[:80], OPERATIONS, n=2)
    hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    return f"unknown operation {name[:80]!r}{hint}; known: {', '.join(OPERATIONS)}"
