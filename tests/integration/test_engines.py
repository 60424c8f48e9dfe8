"""The same plans on both engines give the same rows, order aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from libs.common.errors import PermanentError
from services.transform.engines import Engine
from services.transform.engines._ray_link import Link
from services.transform.engines._ray_words import Terms
from services.transform.engines.local import Local
from services.transform.engines.ray import Ray
from tests.plans import Bench, Row, people, run
from tests.ray_head import ray_head

Keep = Callable[[Row], bool]

pytestmark = pytest.mark.xdist_group("ray")  # one Ray head at a time

ROWS = [{**row, "city": row["city"] or None} for row in people(400)]


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "local":
        lane = Local(workers=2, tries=3)
        lane.start()
        yield lane
        lane.stop()
        return
    with ray_head() as head:
        ray = Ray(
            Link(head.address, lambda: head.token), 60, Terms(deadline=120, linger=60, tries=2)
        )
        ray.start()
        yield ray
        ray.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    rows = people(400)
    for i in range(3):
        bench.write_csv(f"{i}.csv", rows[i::3] if i < 2 else rows[2::3])
    return bench


def first_by(rows: Sequence[Row], *columns: str) -> list[Row]:
    """What dedupe keeps: source order is file by file."""
    found: dict[tuple[object, ...], Row] = {}
    for row in rows[0::3] + rows[1::3] + rows[2::3]:  # type: ignore[operator]
        found.setdefault(tuple(row[c] for c in columns), row)
    return list(found.values())


PLANS: dict[str, tuple[list[dict[str, object]], list[Row]]] = {
    "nothing": ([], ROWS),
    "filter": ([{"filter": "price > 10 AND name LIKE 'n1%'"}],
               [r for r in ROWS if r["id"] * 0.25 > 10 and r["name"] == "n1"]),
    "unknown is dropped": ([{"filter": "city <> 'c1'"}],
                           [r for r in ROWS if r["city"] not in (None, "c1")]),
    "select": ([{"select": ["name", "id"]}], [{"name": r["name"], "id": r["id"]} for r in ROWS]),
    "rename": ([{"rename": {"id": "number"}}, {"select": ["number"]}],
               [{"number": r["id"]} for r in ROWS]),
    "cast": ([{"cast": {"id": "string"}}, {"select": ["id"]}],
             [{"id": str(r["id"])} for r in ROWS]),
    "dedupe": ([{"dedupe": ["name", "city"]}], first_by(ROWS, "name", "city")),
    "dedupe twice": ([{"dedupe": ["city"]}, {"dedupe": ["name"]}],
                     first_by(sorted(first_by(ROWS, "city"), key=lambda r: r["id"] % 3), "name")),
    "repartition": ([{"repartition": 5}], ROWS),
    "all of it": ([{"filter": "id >= 10"}, {"dedupe": ["name", "city"]}, {"repartition": 2},
                   {"select": ["name"]}],
                  [{"name": r["name"]} for r in first_by(
                      [r if r["id"] >= 10 else {**r, "name": None, "city": None} for r in ROWS],
                      "name", "city") if r["name"]]),
    "none left": ([{"filter": "id < 0"}], []),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_the_same_plan_gives_the_same_rows_on_every_engine(
    name: str, bench: Bench, engine: Engine
) -> None:
    transform, expected = PLANS[name]
    bench.run = f"run-{name.replace(' ', '-')}"
    table = bench.commit(run(engine, bench.plan(transform)))
    rows = table.drop_columns(["_row", "_hash", "_source"]).to_pylist()
    assert sorted(map(str, rows)) == sorted(map(str, expected))
    assert table["_row"].null_count == 0


def test_a_type_that_changes_late_loses_nothing(tmp_path: Path, engine: Engine) -> None:
    bench = Bench(tmp_path, run="run-late")
    bench.write("a.csv", "a,b\n" + "".join(f"{i},{i}\n" for i in range(2000)) + "x,2.5\n")
    table = bench.commit(run(engine, bench.plan()))
    assert table.schema.field("a").type == pa.string()
    assert table.schema.field("b").type == pa.float64()
    assert table.num_rows == 2001
    assert table["a"].to_pylist()[-1] == "x"


def test_repartition_gives_that_many_fragments(bench: Bench, engine: Engine) -> None:
    bench.run = "run-fragments"
    assert len(run(engine, bench.plan([{"repartition": 5}])).fragments) == 5


def test_a_bad_value_is_named_with_file_column_and_value(tmp_path: Path, engine: Engine) -> None:
    bench = Bench(tmp_path, run="run-bad")
    bench.write("a.csv", "a\n1\n2\n")
    bench.write("b.csv", "a\n3\noops\n")
    with pytest.raises(PermanentError) as caught:
        run(engine, bench.plan([{"cast": {"a": "int"}}]))
    assert caught.value.code == "cast_failed"
    assert caught.value.detail == "b.csv: cast: column 'a': 'oops' can't become int64"


def test_nothing_is_left_in_the_stage(bench: Bench, engine: Engine) -> None:
    bench.run = "run-stage"
    run(engine, bench.plan([{"dedupe": ["name"]}]))
    assert not bench.stage().exists()
