"""The driver over work done in this very process: phases, conflicts, errors, order."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from libs.common.errors import PermanentError, TransientError
from services.transform.driver import Done, execute
from services.transform.plan import Plan
from services.transform.tasks import Answer, Trouble, WorkerBug
from services.transform.work import answer
from tests.plans import Bench, ignore, people


class Here:
    """A mapper without processes; answers come backwards, since no order is promised."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def __call__(self, lines: Sequence[str]) -> Generator[tuple[int, str]]:
        for at, line in reversed(list(enumerate(lines))):
            self.kinds.append(line.split('"')[3])
            yield at, answer(line)


def broken(trouble: Trouble) -> Here:
    """Surveys, and then every task answers this."""

    class Broken(Here):
        def __call__(self, lines: Sequence[str]) -> Generator[tuple[int, str]]:
            for at, found in super().__call__(lines):
                reading = '"kind":"read"' in lines[at]
                yield at, Answer(trouble=trouble).model_dump_json() if reading else found

    return Broken()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.write_csv("a.csv", people(300))
    return bench


def test_a_row_wise_plan_reads_once_and_exchanges_nothing(bench: Bench) -> None:
    mapper = Here()
    execute(bench.plan([{"filter": "id > 1"}]), mapper, ignore)
    assert set(mapper.kinds) == {"survey", "read"}


def test_rows_stay_in_source_order(bench: Bench) -> None:
    table = bench.commit(execute(bench.plan(), Here(), ignore))
    assert table["id"].to_pylist() == list(range(300))


def test_dedupe_keeps_the_first_whatever_comes_back_first(bench: Bench) -> None:
    table = bench.commit(execute(bench.plan([{"dedupe": ["name"]}]), Here(), ignore))
    assert sorted(table["id"].to_pylist()) == list(range(7))


def test_a_conflict_infers_everything_and_reads_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write("a.csv", "a\n" + "1\n" * 3000)
    bench.write("b.csv", "a\n" + "1.5\n" * 3000)
    mapper = Here()
    table = bench.commit(execute(bench.plan(), mapper, ignore))
    assert table.schema.field("a").type == pa.float64()
    assert table.num_rows == 6000
    assert {"infer", "join"} < set(mapper.kinds)


def test_a_column_that_is_empty_at_first_gets_its_later_type(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write("a.csv", "a,b,c\n" + "1,,\n" * 1000 + "1,5,\n")
    table = bench.commit(execute(bench.plan(), Here(), ignore))
    assert table.schema.field("b").type == pa.int64()
    assert table.schema.field("c").type == pa.string()
    assert table["b"].drop_null().to_pylist() == [5]


def test_no_rows_are_a_version_with_all_columns(bench: Bench) -> None:
    table = bench.commit(execute(bench.plan([{"filter": "false"}]), Here(), ignore))
    assert table.num_rows == 0
    assert table.schema.names[:4] == ["id", "name", "price", "city"]


def test_a_header_alone_is_a_version_without_rows(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write("a.csv", "a,b\n")
    table = bench.commit(execute(bench.plan(), Here(), ignore))
    assert (table.num_rows, table.schema.names[:2]) == (0, ["a", "b"])


def test_progress_ends_with_everything_done(bench: Bench) -> None:
    seen: list[Done] = []
    execute(bench.plan(), Here(), seen.append)
    last = seen[-1]
    assert last.done == last.total > 1
    assert (last.rows, last.files) == (300, 1)
    assert last.bytes == bench.files[0].stat().st_size


@pytest.mark.parametrize("family", [PermanentError, TransientError])
def test_an_error_travels_whole(bench: Bench, family: type[PermanentError]) -> None:
    raised = family("a.csv:3: ragged", code="parse_error", path="spec.source")
    with pytest.raises(family) as caught:
        execute(bench.plan(), broken(Trouble.of(raised)), ignore)
    assert caught.value.detail == "a.csv:3: ragged"
    assert (caught.value.code, caught.value.path) == ("parse_error", "spec.source")
    assert caught.value.problems == raised.problems


def test_a_bug_in_a_worker_is_a_bug_here_with_its_traceback(bench: Bench) -> None:
    with pytest.raises(WorkerBug, match="Traceback"):
        execute(bench.plan(), broken(Trouble(kind="bug", detail="Traceback: …")), ignore)


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_read(bench: Bench) -> None:
    mapper = Here()
    with pytest.raises(PermanentError, match="nope"):
        execute(bench.plan([{"repartition": 2}, {"select": ["nope"]}]), mapper, ignore)
    assert mapper.kinds == ["survey"]


def test_a_reserved_column_in_a_source_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write("a.csv", "a,_row\n1,2\n")
    with pytest.raises(PermanentError, match="_row"):
        execute(bench.plan(), Here(), ignore)


def test_the_stage_is_cleared_after_an_error_too(bench: Bench) -> None:
    plan = bench.plan([{"dedupe": ["name"]}, {"cast": {"name": "int64"}}])
    with pytest.raises(PermanentError, match="'n0' can't become int64"):
        execute(plan, Here(), ignore)
    assert not Path(plan.recipe.stage).exists()


def test_many_small_files_are_few_tasks(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for i in range(300):
        bench.write(f"{i:03}.csv", f"a\n{i}\n")
    plan: Plan = bench.plan()
    mapper = Here()
    table = bench.commit(execute(plan, mapper, ignore))
    assert table["a"].to_pylist() == list(range(300))
    assert mapper.kinds.count("survey") == 2
    assert mapper.kinds.count("read") == 1
