"""A manifest's text → the model, or all that is wrong with it at once."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from itertools import islice

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from libs.common.errors import Problem
from libs.common.manifest import reader, rules
from libs.common.manifest.errors import ManifestError
from libs.common.manifest.model import DataSet, Part
from libs.common.manifest.words import path_of, problem_of


def parse(manifest: str | bytes | Mapping[str, object]) -> DataSet:
    """Raises ManifestError with every problem (at most 100), in the order of the model."""
    values = _values(manifest)
    try:
        dataset, found = DataSet.model_validate(values), []
    except ValidationError as error:
        dataset, found = None, error.errors(include_url=False)
    every = [_problem(one, values) for one in found[: reader.MAX_PROBLEMS]]
    every += islice(rules.problems(values), reader.MAX_PROBLEMS)
    if dataset is None or every:
        raise ManifestError(_once(every)[: reader.MAX_PROBLEMS])
    return dataset


def _values(manifest: str | bytes | Mapping[str, object]) -> dict[str, object]:
    if isinstance(manifest, str | bytes):
        return reader.read(manifest)
    values = reader.mapping(manifest)
    size = len(orjson.dumps(values))
    if size > reader.MAX_BYTES:
        raise reader.too_large(size)
    return values


def _once(problems: list[Problem]) -> list[Problem]:
    """A path that is wrong for one reason isn't named again for the same."""
    kept: dict[tuple[str, str | None], Problem] = {}
    for problem in problems:
        kept.setdefault((problem.code, problem.path), problem)
    secret = {path for code, path in kept if code == "inline_secret"}
    return [p for p in kept.values() if p.path not in secret or p.code == "inline_secret"]


def _problem(found: ErrorDetails, values: dict[str, object]) -> Problem:
    if found["type"] == "extra_forbidden":
        return _unknown_field(found["loc"], values)
    problem = problem_of(found, "", values)
    if found["loc"] == ("apiVersion",) and found["type"] == "literal_error":
        return Problem("unsupported_version", problem.detail, problem.path)
    if found["type"] == "missing":
        return Problem("missing_field", _missing(found["loc"]), problem.path)
    return problem


def _missing(loc: tuple[int | str, ...]) -> str:
    model = _model_at(loc[:-1])
    field = next(f for n, f in model.model_fields.items() if (f.alias or n) == loc[-1])
    said = str(field.description or "").rstrip(".")
    allowed = _allowed(field.annotation)
    return f"missing. {said}" + (f": {', '.join(allowed)}" if allowed else "")


def _allowed(annotation: object) -> list[str]:
    if typing.get_origin(annotation) is not typing.Literal:
        return []
    return sorted(str(value) for value in typing.get_args(annotation))


def _unknown_field(loc: tuple[int | str, ...], values: dict[str, object]) -> Problem:
    name = str(loc[-1])
    siblings = sorted(f.alias or n for n, f in _model_at(loc[:-1]).model_fields.items())
    by_lower = {sibling.lower(): sibling for sibling in siblings}
    near = get_close_matches(name[:80].lower(), by_lower, n=1)
    elsewhere = [path for path in field_paths() if path.rpartition(".")[2].lower() == name.lower()]
    if near:
        hint = f" (did you mean {by_lower[near[0]]!r}?)"
    else:
        hint = f" (it belongs to {' or '.join(elsewhere[:2])})" if elsewhere else ""
    detail = f"unknown field{hint}; known: {', '.join(siblings)}"
    return Problem("unknown_field", detail, path_of(loc, "", values))


def _model_at(loc: tuple[int | str, ...]) -> type[Part]:
    """The part of the model that a location names."""
    model: type[Part] = DataSet
    for step in loc:
        if isinstance(step, str):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            model = next(_parts(fields[step].annotation), model)
    return model


def _parts(annotation: object) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _parts(argument)


@cache
def field_paths() -> tuple[str, ...]:
    """Paths of all fields, the outer ones first."""
    return tuple(_paths(DataSet, ""))


def _paths(model: type[Part], path: str) -> Iterator[str]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    yield from (f"{path}{name}" for name in fields)
    for name, field in fields.items():
        for part in _parts(field.annotation):
            yield from _paths(part, f"{path}{name}.")
