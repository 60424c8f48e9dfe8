"""What a manifest may say and this release doesn't do yet: a table that shrinks line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libs.common.errors import Problem
from libs.common.manifest.model import DataSet

ONE_OR_MORE = ("spec.source.url", "spec.destination")


@dataclass(frozen=True)
class Gap:
    """`path` (`[]`: every item) is not built yet, except for the values in `but`."""

    path: str
    but: tuple[str, ...] = ()
    longest: int = 0  # so many characters are fine


GAPS: tuple[Gap, ...] = (
    Gap("metadata.name", longest=240),  # the warehouse's folders: 255 bytes, and an ending
    Gap("spec.destination[].type", but=("local",)),
    Gap("spec.destination[].secretRef"),
    Gap("spec.destination[].vector"),
    Gap("spec.entrypoint"),
    Gap("spec.image"),
    Gap("spec.rayJobConfig.gpu"),
    Gap("spec.rayClusterConfig"),
    Gap("spec.transform[].chunk"),
    Gap("spec.transform[].embed"),
    Gap("spec.transform[].sql"),
    Gap("spec.transform[].sample"),
    Gap("spec.transform[].shuffle"),
    Gap("spec.transform[].split"),
    Gap("spec.transform[].fill"),
    Gap("spec.transform[].normalize_text"),
    Gap("spec.transform[].resize_image"),
    Gap("spec.trigger"),
    Gap("spec.labels"),
)


def unsupported(dataset: DataSet) -> tuple[Problem, ...]:
    """Everything that is valid but not built yet, as `not_supported_yet` with its path."""
    said = dataset.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return tuple(problem for gap in GAPS for problem in _found(gap, said))


def _found(gap: Gap, said: dict[str, object]) -> Iterator[Problem]:
    for path, value in _at(gap.path.split("."), said, ""):
        if value not in gap.but and not len(str(value)) <= gap.longest:
            yield Problem("not_supported_yet", _detail(value, gap), path)


def _detail(found: object, gap: Gap) -> str:
    if gap.longest:
        return f"more than {gap.longest} characters are not supported yet"
    if not gap.but:
        return "not supported yet; leave it out"
    return f"{found} is not supported yet; works now: {', '.join(gap.but)}"


def _at(steps: list[str], value: object, path: str) -> Iterator[tuple[str, object]]:
    """Every place that the path names and that says more than a default."""
    if not steps:
        if value not in ({}, [], None):
            yield path, value
        return
    name = steps[0].removesuffix("[]")
    if not isinstance(value, dict) or name not in value:
        return
    here = f"{path}.{name}" if path else name
    if not steps[0].endswith("[]"):
        yield from _at(steps[1:], value[name], here)
        return
    single = here in ONE_OR_MORE and len(value[name]) == 1
    for index, item in enumerate(value[name]):
        yield from _at(steps[1:], item, here if single else f"{here}[{index}]")
