"""What a run will do, as a table."""

from __future__ import annotations

import pytest

from libs.common.errors import PermanentError
from libs.common.manifest import DataSet, parse
from libs.formats import SourceFile
from services.transform.plan import (
    MB,
    EngineName,
    Plan,
    Sizes,
    Step,
    choose_engine,
    groups,
    make_plan,
    split_size,
)

BOTH: tuple[EngineName, ...] = ("local", "ray")


def dataset(**spec: object) -> DataSet:
    return parse(
        {
            "apiVersion": "core.oneblock.ai/v1alpha1",
            "kind": "DataSet",
            "metadata": {"name": "x"},
            "spec": {"source": {"type": "csv", "url": "file:///x"}, **spec},
        }
    )


def plan(wanted: DataSet, sizes: list[int], attempt: int = 1) -> Plan:
    return make_plan(
        wanted,
        [SourceFile(f"file:///{i}.csv", f"{i}.csv", size) for i, size in enumerate(sizes)],
        run="run-1",
        attempt=attempt,
        target="/w/x.lance",
        stage=f"/w/stage-{attempt}",
        sizes=Sizes(),
        workers={"local": 2, "ray": 8},
    )


@pytest.mark.parametrize(
    ("wanted", "total", "available", "engine"),
    [
        ("auto", 1, BOTH, "local"),
        ("auto", 128 * MB, BOTH, "local"),
        ("auto", 128 * MB + 1, BOTH, "ray"),
        ("auto", 10**12, ("local",), "local"),
        ("local", 10**12, BOTH, "local"),
        ("ray", 1, BOTH, "ray"),
    ],
)
def test_small_inputs_go_to_the_local_lane(
    wanted: str, total: int, available: tuple[EngineName, ...], engine: str
) -> None:
    assert choose_engine(dataset(engine=wanted).spec, total, Sizes(), available) == engine


def test_ray_without_a_cluster_is_refused_with_what_to_do() -> None:
    with pytest.raises(PermanentError, match="ONEBLOCK_RAY_ADDRESS") as caught:
        choose_engine(dataset(engine="ray").spec, 1, Sizes(), ("local",))
    assert (caught.value.code, caught.value.path) == ("engine_unavailable", "spec.engine")


@pytest.mark.parametrize(
    ("total", "workers", "size"),
    [
        (1, 2, 8 * MB),  # not cut smaller than worth it
        (64 * MB, 2, 16 * MB),  # every worker busy twice
        (10_000 * MB, 2, 64 * MB),
        (0, 0, 8 * MB),
    ],
)
def test_splits_keep_workers_busy_within_limits(total: int, workers: int, size: int) -> None:
    assert split_size(total, Sizes(), workers) == size


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([5], [range(0, 1)]),
        ([5, 5, 5], [range(0, 2), range(2, 3)]),
        ([100, 1, 1, 100], [range(0, 1), range(1, 3), range(3, 4)]),
        ([0, 0, 0], [range(0, 3)]),
    ],
)
def test_small_files_are_gathered_into_one_task(sizes: list[int], expected: list[range]) -> None:
    assert groups(sizes, 10) == expected


def test_a_plan_is_plain_json() -> None:
    made = plan(dataset(transform=[{"filter": "a > 1"}, {"dedupe": "a"}]), [1, 2])
    assert Plan.model_validate_json(made.model_dump_json()) == made
    assert made.recipe.steps[1] == Step(name="dedupe", arguments=["a"])


def test_attempts_at_the_same_work_have_the_same_fingerprint() -> None:
    wanted = dataset(transform=[{"select": ["a"]}])
    first = plan(wanted, [1]).fingerprint()
    assert plan(wanted, [1], attempt=2).fingerprint() == first
    assert plan(wanted, [2]).fingerprint() != first
    assert plan(dataset(transform=[{"select": ["b"]}]), [1]).fingerprint() != first


def test_no_files_is_an_error() -> None:
    with pytest.raises(PermanentError) as caught:
        plan(dataset(), [])
    assert caught.value.code == "no_files"


def test_distribute_ops_repartition_makes_that_many_parts() -> None:
    job = {"distributeOps": "repartition", "parallelism": 3}
    made = plan(dataset(rayJobConfig=job), [1])
    assert made.recipe.steps == (Step(name="repartition", arguments=3),)
    assert made.parallelism == 3
