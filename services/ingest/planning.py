"""What a request would do: the files it would find, whether the spec changes, which engine."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice

from libs.common import manifest
from libs.common.bus.records import Desired
from libs.common.errors import OneBlockError
from libs.common.manifest import DataSet
from libs.stores import Access, Reach, SourceInfo, store_for
from services.ingest.api.answers import Plan, ProblemView, SourcePlan
from services.ingest.detection import AUTO, Detection
from services.ingest.sources import Archives, open_listed, placed

SAMPLE = 5  # paths shown per source
LOOK_AT = 100_000  # files per source
LOOK_FOR = 5.0  # seconds over all sources


def plan(
    dataset: DataSet, stored: Desired | None, active: str | None, access: Access, local_bytes: int
) -> Plan:
    """Blocks while it lists; looks at no more than LOOK_AT files a source, for LOOK_FOR seconds."""
    looking = _Looking(dataset, access)
    sources, problems, complete = _sources(dataset, looking)
    size = sum(source.bytes for source in sources)
    said, generation = _spec(dataset, stored)
    return Plan(
        dataset=dataset.dataset,
        generation=generation,
        spec=said,
        files=sum(source.files for source in sources),
        bytes=size,
        sources=sources,
        type=looking.type,
        complete=complete,
        engine=_engine(dataset, size, local_bytes),
        destinations=[one.url for one in dataset.spec.destination],
        active_run=active,
        problems=[*problems, *looking.problems],
    )


def _spec(dataset: DataSet, stored: Desired | None) -> tuple[str, int]:
    if stored is None:
        return "new", 1
    if stored.deleted:
        return "deleted", stored.generation + 1
    if stored.digest == manifest.spec_digest(dataset):
        return "unchanged", stored.generation
    return "changed", stored.generation + 1


def _engine(dataset: DataSet, size: int, local_bytes: int) -> str:
    if dataset.spec.engine != "auto":
        return dataset.spec.engine
    gpu = dataset.spec.rayJobConfig is not None and dataset.spec.rayJobConfig.gpu > 0
    return "ray" if gpu or size > local_bytes else "local"


class _Looking:
    """How the files are reached, and of what type they are."""

    def __init__(self, dataset: DataSet, access: Access) -> None:
        self.access, self.reach = access, Reach.of(dataset)
        self.problems: list[ProblemView] = []
        self._said = dataset.spec.source.type
        self._opened = Archives.model_validate(self.reach.options).archives
        self._detection = Detection(partial(open_listed, access, self.reach))

    @property
    def type(self) -> str:
        """Empty where it isn't known: of mixed files, and of archives, which the run opens."""
        if self._said != AUTO:
            return self._said
        return "" if self.problems else self._detection.type

    def at(self, file: SourceInfo) -> None:
        """One file more; what is wrong with its type is told once."""
        if self._said != AUTO or self.problems:
            return
        try:
            (self._detection.glimpse if self._opened else self._detection.see)(file)
        except OneBlockError as error:
            found = ProblemView(code=error.code, detail=error.detail, path=error.path)
            self.problems.append(found)


def _sources(
    dataset: DataSet, looking: _Looking
) -> tuple[list[SourcePlan], list[ProblemView], bool]:
    found: list[SourcePlan] = []
    problems: list[ProblemView] = []
    complete, until = True, time.monotonic() + LOOK_FOR
    for index, url in enumerate(dataset.spec.source.url):
        one = SourcePlan(url=url, files=0, bytes=0)
        try:
            complete &= _list(one, dataset, looking, until)
        except OneBlockError as error:
            told = placed(error, dataset, index)
            problems.append(ProblemView(code=told.code, detail=told.detail, path=told.path))
        found.append(one)
    return found, problems, complete


def _list(one: SourcePlan, dataset: DataSet, looking: _Looking, until: float) -> bool:
    """Counts into `one`; False when there is more."""
    store = store_for(one.url, looking.access, looking.reach)
    files = store.list(one.url, dataset.spec.source.filter)
    for info in islice(files, LOOK_AT):
        one.files += 1
        one.bytes += max(0, info.size)  # a web server need not tell
        if len(one.sample) < SAMPLE:
            one.sample.append(info.path)
        looking.at(info)
        if time.monotonic() > until:
            return False
    return next(files, None) is None
