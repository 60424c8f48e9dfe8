"""What must hold between fields, and in every field.

The rules look at the text's own values, not at the model, so that their problems are told together
with all others even where the model doesn't fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from libs.common.errors import Problem
from libs.common.manifest import operations, urls
from libs.common.manifest.names import metadata_problems
from libs.common.manifest.values import join

_SECRET_NAME = re.compile(
    r"(.*_)?(password|passwd|pwd|secret|secret_?(access_?)?key|access_?key(_?id)?|api_?key|"
    r"(access_?|auth_?|bearer_?|session_?)?token|credentials?|private_?key|connection_?string)",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_[A-Za-z0-9]{36}|"
    r"\bgithub_pat_[A-Za-z0-9_]{22}|\bxox[abpr]-[A-Za-z0-9-]{10}|\bAIza[0-9A-Za-z_-]{35}|"
    r"\bglpat-[A-Za-z0-9_-]{20}|\bsk-[A-Za-z0-9_-]{32}|"
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\."
)
_MOST, _DESTINATIONS = 1000, 32  # what the model allows; it tells of longer lists
_COLUMNS = ("spec.transform", "spec.labels", "metadata.")  # keys there are people's own names


def problems(manifest: Mapping[str, object]) -> Iterator[Problem]:
    """Everything that is wrong beyond the shape of single fields."""
    spec = _mapping(manifest.get("spec"))
    yield from secrets(manifest, "")  # first, since they must not be echoed by another problem
    yield from metadata_problems(_mapping(manifest.get("metadata")))
    steps = spec.get("transform")
    for index, step in enumerate(_list(steps) if isinstance(steps, list) else []):
        yield from operations.problems(step, join("spec.transform", index))
    yield from _places(spec)
    for path, destination in _destinations(spec):
        yield from _destination(path, destination)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    if value is None:
        return []
    return value[:_MOST] if isinstance(value, list) else [value]


def _destinations(spec: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    given = spec.get("destination")
    for index, one in enumerate(_list(given)[:_DESTINATIONS]):
        path = join("spec.destination", index) if isinstance(given, list) else "spec.destination"
        yield path, _mapping(one)


def _places(spec: Mapping[str, object]) -> Iterator[Problem]:
    """No destination inside a source (its files would become input), none given twice."""
    given = _mapping(spec.get("source")).get("url")
    sources = [urls.Place.of(url) for url in _list(given) if isinstance(url, str)]
    seen: set[urls.Place] = set()
    for index, place in enumerate(sources):
        if place in seen:
            yield Problem("invalid_value", "this URL is given twice", f"spec.source.url[{index}]")
        seen |= {place} if place else set()
    taken: dict[urls.Place, str] = {}
    for path, destination in _destinations(spec):
        url = destination.get("url")
        target = urls.Place.of(url) if isinstance(url, str) else None
        if target is None:
            continue
        if target in taken:
            detail = f"the same place as {taken[target]}; every destination needs its own"
            yield Problem("duplicate_destination", detail, f"{path}.url")
        taken.setdefault(target, path)
        if any(source and source.covers(target) for source in sources):
            detail = "lies inside spec.source.url: what is written would be read again"
            yield Problem("loop", detail, f"{path}.url")


def _destination(path: str, destination: Mapping[str, object]) -> Iterator[Problem]:
    kind, url = destination.get("type"), destination.get("url")
    schemes = urls.DESTINATION_SCHEMES.get(kind) if isinstance(kind, str) else None
    known = set(chain.from_iterable(urls.DESTINATION_SCHEMES.values()))
    if schemes and isinstance(url, str) and urls.scheme(url) in known - set(schemes):
        allowed = " or ".join(f"{name}://" for name in schemes)
        detail = f"type {kind} needs {allowed}, not {urls.scheme(url)}://"
        yield Problem("invalid_value", detail, f"{path}.url")
    if schemes and kind != "qdrant":
        if destination.get("format") is None:
            detail = f"missing; type {kind} needs the format of the files, such as parquet"
            yield Problem("missing_field", detail, f"{path}.format")
        if destination.get("vector") is not None:
            yield Problem("invalid_value", "only for type qdrant", f"{path}.vector")
    vector = _mapping(destination.get("vector"))
    size, overlap = vector.get("chunkSize"), vector.get("chunkOverlap")
    if isinstance(size, int) and isinstance(overlap, int) and overlap >= size:
        detail = f"must be less than chunkSize ({size}), not {overlap}"
        yield Problem("invalid_value", detail, f"{path}.vector.chunkOverlap")


def secrets(value: object, path: str) -> Iterator[Problem]:
    """Credentials written out, by their shape or by the name of their field; never echoed."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            here = join(path, str(key))
            named = not here.startswith(_COLUMNS) and _SECRET_NAME.fullmatch(str(key))
            if named and isinstance(item, str) and item:
                yield _secret(here)
            else:
                yield from secrets(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secrets(item, join(path, index))
    elif isinstance(value, str) and _SECRET_TEXT.search(value):
        yield _secret(path)


def _secret(path: str) -> Problem:
    return Problem("inline_secret", "looks like a credential; name it by secretRef", path)
