"""What a manifest may say under `destination.options`: ours, and the format's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from libs.common.errors import PermanentError, Problem
from libs.formats import Format

_UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1 << 10, "MIB": 1 << 20,
          "GIB": 1 << 30}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def size(value: object) -> object:
    """Bytes from a number, or from text such as 128MB or 1GiB."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2].upper() not in _UNITS:
        return value
    return int(float(match[1]) * _UNITS[match[2].upper()])


class FileOptions(BaseModel):
    """What every destination of files understands."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    partSize: Annotated[int, BeforeValidator(size), Field(ge=1024, le=1 << 40)] = 128 * 1024 * 1024
    systemColumns: bool = False  # also deliver _row, _hash, _source


def split_options(
    options: Mapping[str, Any], format: Format, where: str
) -> tuple[FileOptions, BaseModel]:
    """Ours and the format's; raises PermanentError `invalid_options` naming every problem."""
    known = FileOptions.model_fields
    ours = {name: value for name, value in options.items() if name in known}
    theirs = {name: value for name, value in options.items() if name not in known}
    problems: list[Problem] = []
    found: list[BaseModel] = []
    for model, values in ((FileOptions, ours), (format.WriteOptions, theirs)):
        try:
            found.append(model.model_validate(values))
        except ValidationError as error:
            problems += _problems(error, where, [*known, *format.WriteOptions.model_fields])
    if problems:
        detail = "; ".join(str(problem) for problem in problems)
        raise PermanentError(detail, code="invalid_options", problems=tuple(problems))
    assert isinstance(found[0], FileOptions)
    return found[0], found[1]


def _problems(error: ValidationError, where: str, known: list[str]) -> list[Problem]:
    problems = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        unknown = item["type"] == "extra_forbidden"
        detail = f"unknown option; known: {', '.join(sorted(known))}" if unknown else item["msg"]
        problems.append(Problem("invalid_options", detail, f"{where}.options.{name}"))
    return problems
