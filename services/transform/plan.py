"""What a run will do, decided purely from its manifest, its inventory and the settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from libs.common.errors import PermanentError
from libs.common.ids import digest
from libs.common.manifest.model import DataSet, Spec
from libs.formats import SourceFile
from libs.stores import Reach, reader_options

MB = 1024 * 1024
EngineName = Literal["local", "ray"]


class Frozen(BaseModel):
    """Immutable plain JSON; what a newer release added is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Step(Frozen):
    """One operation with its arguments, as the manifest gives them."""

    name: str
    arguments: JsonValue = None


class Sizes(Frozen):
    """How work is cut. Bytes are of the source files."""

    split: int = 64 * MB  # what one task reads, about
    smallest: int = 8 * MB  # a split is not cut below this just to keep every worker busy
    head: int = 4 * MB  # how much of the first file decides the column types, at first
    local: int = 128 * MB  # engine auto: up to this much goes to the local lane


class Recipe(Frozen):
    """What every task of a run needs to know; small, since it travels with each of them."""

    target: str  # URI of the Lance dataset
    stage: str  # folder for files that tasks exchange; belongs to this attempt alone
    format: str
    options: dict[str, JsonValue] = {}  # of the format's reader
    reach: Reach = Reach()  # how the files are opened; a secret by its name
    key: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    split: int  # bytes
    head: int  # bytes
    quarantine: bool = False  # what can't be read is set aside; else it ends the run


class Plan(Frozen):
    """A whole run: what is read, what is done to it, where it goes."""

    run: str
    dataset: str
    attempt: int
    engine: EngineName
    recipe: Recipe
    files: tuple[SourceFile, ...]  # in source order
    parallelism: int | None = None  # tasks at once; None: as many as there are workers
    spread: bool = False  # over nodes, rather than filling one after the other
    quarantine: str = ""  # path of the table of what was set aside
    max_bad: float = 1.0  # share of bad rows, or files, above which the run fails all the same

    def fingerprint(self) -> str:
        """Same for every attempt at the same work."""
        recipe = self.recipe.model_dump(mode="json", exclude={"stage"})
        return digest([recipe, [[f.uri, f.size, f.etag] for f in self.files]])


def make_plan(
    manifest: DataSet,
    files: Iterable[SourceFile],
    *,
    run: str,
    attempt: int,
    target: str,
    stage: str,
    quarantine: str = "",
    sizes: Sizes,
    workers: Mapping[EngineName, int],
) -> Plan:
    """`workers`: of each engine that there is. Raises PermanentError for what can't be planned."""
    spec, ordered = manifest.spec, tuple(files)
    if not ordered:
        raise PermanentError("the sources hold no files", code="no_files", path="spec.source.url")
    total = sum(f.size for f in ordered)
    engine = choose_engine(spec, total, sizes, tuple(workers))
    recipe = Recipe(
        target=target,
        stage=stage,
        format=spec.source.type,
        options=reader_options(manifest),
        reach=Reach.of(manifest),
        key=tuple(spec.source.key),
        steps=steps(spec),
        split=split_size(total, sizes, workers[engine]),
        head=sizes.head,
        quarantine=spec.onError == "quarantine",
    )
    job = spec.rayJobConfig
    return Plan(
        run=run,
        dataset=manifest.dataset,
        attempt=attempt,
        engine=engine,
        recipe=recipe,
        files=ordered,
        parallelism=job.parallelism if job else None,
        spread=job is not None and job.scheduling == "SPREAD",
        quarantine=quarantine,
        max_bad=spec.maxBadRatio,
    )


def choose_engine(
    spec: Spec, total: int, sizes: Sizes, available: Sequence[EngineName]
) -> EngineName:
    """auto: small inputs without GPUs go to the local lane, which is there at once.

    Raises PermanentError `engine_unavailable` for one that was asked for and isn't configured.
    """
    gpu = spec.rayJobConfig is not None and spec.rayJobConfig.gpu > 0
    if spec.engine == "ray" or gpu:
        if "ray" not in available:
            raise PermanentError(
                "no Ray cluster is configured; set ONEBLOCK_RAY_ADDRESS, or ask for engine: local",
                code="engine_unavailable",
                path="spec.engine",
            )
        return "ray"
    if spec.engine == "local" or "ray" not in available:
        return "local"
    return "ray" if total > sizes.local else "local"


def split_size(total: int, sizes: Sizes, workers: int) -> int:
    """Bytes per split: enough splits to keep every worker busy twice, within the limits."""
    even = -(-total // max(1, 2 * workers))
    return max(min(sizes.smallest, sizes.split), min(sizes.split, even))


def steps(spec: Spec) -> tuple[Step, ...]:
    """The operations in order: one `{name: arguments}` each."""
    found = [Step(name=n, arguments=a) for item in spec.transform for n, a in item.items()]
    job = spec.rayJobConfig
    if job and job.parallelism and "repartition" in job.distributeOps and not spec.entrypoint:
        found.append(Step(name="repartition", arguments=job.parallelism))
    return tuple(found)


def groups(sizes: Sequence[int], target: int) -> list[range]:
    """Consecutive things by size, gathered until a group has about `target`."""
    found: list[range] = []
    start, filled = 0, 0
    for at, size in enumerate(sizes):
        if at > start and filled + size > target:
            found.append(range(start, at))
            start, filled = at, 0
        filled += size
    return [*found, range(start, len(sizes))] if sizes else []


def nearest(name: str, known: Sequence[str]) -> str:
    """` (did you mean 'x'?)`, or nothing where no known name is near."""
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
