"""The driver of a run: which tasks, in which order, and what comes out; knows no engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from libs.common.errors import PermanentError
from libs.formats import Split
from libs.warehouse.quarantine import Counts, gather, read_items
from services.transform.pipeline import exchange, segments
from services.transform.plan import Frozen, Plan, groups
from services.transform.tasks import (
    Answer,
    Chunk,
    Columns,
    Infer,
    Inferred,
    Join,
    Read,
    Reduce,
    Survey,
    Surveyed,
    Trouble,
    WorkerBug,
    Written,
)

FILES_PER_SURVEY = 256
SURVEYS = 64  # about as many at most: what a task costs is worth it
FILES_PER_READ = 8192  # however small they are
M = TypeVar("M", bound=BaseModel)


class Done(Frozen):
    """How far a run is."""

    rows: int = 0
    bytes: int = 0
    files: int = 0
    done: int = 0  # tasks finished …
    total: int = 0  # … of so many


class Output(Frozen):
    """What a run made: uncommitted fragments, and the version's schema (see tasks.dump_schema)."""

    fragments: tuple[str, ...]
    schema_: str
    rows: int
    bytes: int
    bad_rows: int = 0
    bad_files: int = 0


Report = Callable[[Done], None]


class Mapper(Protocol):
    """Runs `work.answer` over lines in parallel; answers come in any order, with their index.

    Raises Cancelled when the run was cancelled and TransientError when workers keep dying. Closed
    before its end it drops the tasks that are left.
    """

    def __call__(self, lines: Sequence[str]) -> Generator[tuple[int, str]]: ...


class Conflict(Exception):
    """Types taken from the head don't hold the rest."""


def execute(plan: Plan, mapper: Mapper, report: Report) -> Output:
    """Runs the plan. Reads twice at most: types come from the head, else from everything."""
    try:
        return _execute(plan, _Tasks(mapper), report)
    finally:
        shutil.rmtree(plan.recipe.stage, ignore_errors=True)


def _execute(plan: Plan, tasks: _Tasks, report: Report) -> Output:
    splits, columns, bad = _survey(plan, tasks)
    run = _Phases(plan, tasks, splits, bad, report)
    try:
        return run.all(columns or _infer(plan, tasks, splits))
    except Conflict:
        return run.all(_infer(plan, tasks, splits))


def _survey(plan: Plan, tasks: _Tasks) -> tuple[list[Split], Columns | None, list[str]]:
    each = max(FILES_PER_SURVEY, len(plan.files) // SURVEYS)
    asked = [
        Survey(recipe=plan.recipe, files=plan.files[i : i + each], head=i == 0, number=i)
        for i in range(0, len(plan.files), each)
    ]
    surveyed = tasks.ordered(asked, Surveyed)
    splits = [split for s in surveyed for split in s.splits]
    bad = [s.bad for s in surveyed if s.bad]
    if bad and not splits:
        quarantined(plan, bad, 0, splits)  # says how much is bad, unless all may be
    return splits, surveyed[0].columns, bad


def _infer(plan: Plan, tasks: _Tasks, splits: Sequence[Split]) -> Columns:
    if not splits:
        raise PermanentError(
            "the sources hold no data to tell columns from", code="empty_source", path="spec.source"
        )
    gathered = _gathered(plan, splits)
    etags = _etags(plan)
    parts = [tuple(splits[g.start : g.stop]) for g in gathered]
    asked = [Infer(recipe=plan.recipe, splits=part, etags=_of(part, etags)) for part in parts]
    schemas = [pair for found in tasks.ordered(asked, Inferred) for pair in found.schemas]
    return tasks.ordered([Join(recipe=plan.recipe, schemas=tuple(schemas))], Columns)[0]


def _gathered(plan: Plan, splits: Sequence[Split]) -> list[range]:
    """Splits for one task each; opening a file counts as some bytes."""
    opening = plan.recipe.split // FILES_PER_READ
    return groups([s.size + opening for s in splits], plan.recipe.split)


def quarantined(plan: Plan, parts: Sequence[str], good: int, splits: Sequence[Split]) -> Counts:
    """Gathers what tasks set aside; raises `too_many_bad` beyond the share that may be bad.

    `good`: rows that were read. How many rows a bad file would have had nobody knows: its share of
    the bytes must do. After that error the table stays where it is, for people to look at.
    """
    if not parts:
        return Counts()
    bad = gather(map(Path, parts), Path(plan.quarantine))
    cut = {split.uri for split in splits}
    size = sum(s.size for s in splits) + sum(f.size for f in plan.files if f.uri not in cut)
    total = bad.rows + good
    share = max(bad.rows / total, min(bad.bytes / max(size, 1), 1.0))
    if share > plan.max_bad:
        raise PermanentError(
            f"{bad.rows:,} of {total:,} rows can't be read, and more than single rows of "
            f"{bad.files:,} of {len(plan.files):,} files: {share:.2%}; at most {plan.max_bad:.2%} "
            f"may be bad (spec.maxBadRatio); the first: {_first(plan)}",
            code="too_many_bad",
            path="spec.maxBadRatio",
        )
    return bad


def _first(plan: Plan) -> str:
    return next(read_items(Path(plan.quarantine), limit=1)).detail


def _etags(plan: Plan) -> dict[str, str]:
    return {file.uri: file.etag for file in plan.files if file.etag}


def _of(splits: Sequence[Split], etags: Mapping[str, str]) -> dict[str, str]:
    return {s.uri: etags[s.uri] for s in splits if s.uri in etags}


class _Phases:
    """One phase per segment: splits → chunks → … → fragments."""

    def __init__(
        self,
        plan: Plan,
        tasks: _Tasks,
        splits: Sequence[Split],
        bad: Sequence[str],
        report: Report,
    ) -> None:
        self._plan, self._tasks, self._splits, self._report = plan, tasks, splits, report
        self._bad = bad
        self._steps = segments(plan.recipe.steps)
        self._total = sum(f.size for f in plan.files)

    def all(self, columns: Columns) -> Output:
        written = self._read(columns)
        parts = [*self._bad, *(w.bad for w in written if w.bad)]
        bad = quarantined(self._plan, parts, sum(w.rows_read for w in written), self._splits)
        for number in range(1, len(self._steps)):
            chunks = [chunk for w in written for chunk in w.chunks]
            written = self._reduce(columns, number, chunks)
        return Output(
            fragments=tuple(f for w in written for f in w.fragments),
            schema_=columns.output,
            rows=sum(w.rows for w in written),
            bytes=sum(w.bytes for w in written),
            bad_rows=bad.rows,
            bad_files=bad.files,
        )

    def _read(self, columns: Columns) -> list[Written]:
        gathered = _gathered(self._plan, self._splits)
        etags = _etags(self._plan)
        asked = [
            Read(
                recipe=self._plan.recipe,
                schema_=columns.schema_,
                splits=part,
                number=i,
                first=gathered[i].start,
                parts=self._parts(0),
                etags=_of(part, etags),
            )
            for i, part in enumerate(tuple(self._splits[g.start : g.stop]) for g in gathered)
        ]
        sizes = [sum(s.size for s in task.splits) for task in asked]
        return self._follow(asked, sizes)

    def _reduce(self, columns: Columns, number: int, chunks: list[Chunk]) -> list[Written]:
        before = self._steps[number - 1].exchange
        assert before is not None  # every segment but the last ends in one
        asked = [
            Reduce(
                recipe=self._plan.recipe,
                schema_=columns.schema_,
                segment=number,
                slices=tuple(slices),
                number=i,
                parts=self._parts(number),
            )
            for i, slices in enumerate(exchange(before).assign(before.arguments, chunks))
        ]
        return self._follow(asked, [0] * len(asked))

    def _parts(self, number: int) -> int:
        step = self._steps[number].exchange
        return 1 if step is None else exchange(step).parts(step.arguments, self._total)

    def _follow(self, asked: Sequence[Read | Reduce], sizes: list[int]) -> list[Written]:
        """Results in the order of the tasks, reported as they come."""
        found: list[Written | None] = [None] * len(asked)
        rows = size = 0
        self._report(self._done(0, len(asked)))
        for done, (at, written) in enumerate(self._tasks.any_order(asked, Written), 1):
            found[at] = written
            rows, size = rows + written.rows_read, size + sizes[at]
            progress = self._done(done, len(asked))
            self._report(progress.model_copy(update={"rows": rows, "bytes": size}))
        return [w for w in found if w is not None]

    def _done(self, done: int, total: int) -> Done:
        return Done(files=len(self._plan.files), done=done, total=total)


@dataclass(frozen=True)
class _Tasks:
    """Tasks as lines to the mapper, answers as models or errors from it."""

    mapper: Mapper

    def any_order(self, tasks: Sequence[BaseModel], model: type[M]) -> Iterator[tuple[int, M]]:
        if not tasks:
            return
        with closing(self.mapper([task.model_dump_json() for task in tasks])) as answers:
            for at, line in answers:
                yield at, _opened(Answer.model_validate_json(line), model)

    def ordered(self, tasks: Sequence[BaseModel], model: type[M]) -> list[M]:
        found = dict(self.any_order(tasks, model))
        return [found[at] for at in sorted(found)]


def _opened(answer: Answer, model: type[M]) -> M:
    if answer.trouble is not None:
        raise raised(answer.trouble)
    assert answer.result is not None  # an answer is one of the two
    return model.model_validate_json(answer.result)


def raised(trouble: Trouble) -> Exception:
    """The exception that a worker's trouble stands for."""
    if trouble.kind == "conflict":
        return Conflict(trouble.detail)
    if trouble.kind == "bug":
        return WorkerBug(trouble.detail)
    return trouble.error()


__all__ = ["Conflict", "Done", "Mapper", "Output", "Report", "execute"]
