"""What a manifest may say and this release doesn't do yet; what decides whether work is redone."""

from __future__ import annotations

from typing import Any

import pytest

from libs.common.manifest import canonical, parse, plan_digest, spec_digest, unsupported
from libs.common.manifest.operations import OPERATIONS
from libs.common.manifest.supported import GAPS
from tests.manifests import GONE, manifest

SUPPORTED: list[dict[str, Any]] = [
    {},
    {"spec__destination": GONE, "metadata__name": "a" * 240},
    {"spec__source__type": "parquet", "spec__source__url": ["file:///a", "upload://b"]},
    {"spec__source__type": "jsonl", "spec__source__filter": "*.jsonl", "spec__source__key": "id"},
    {"spec__destination__format": "csv", "spec__destination__url": "/out"},
    {"spec__source__type": "text", "spec__destination__format": "text"},
    {"spec__source__type": "image", "spec__destination__format": "image"},
    {"spec__source__type": "binary", "spec__destination__format": "binary"},
    {"spec__source__type": "tfrecords", "spec__destination__format": "tfrecords"},
    {"spec__destination__format": "jsonl", "spec__destination__options": {"a": 1}},
    {"spec__source__url": ["s3://b/x", "nfs://h/x"], "spec__source__secretRef": {"name": "a"}},
    {"spec__source__url": ["http://h/x", "https://h/x"], "spec__source__copy": "never"},
    {"spec__engine": "local"},
    {"spec__engine": "ray"},
    {"spec__rayJobConfig": {"parallelism": 2, "batch_size": 9, "scheduling": "SPREAD", "gpu": 0}},
    {"spec__rayJobConfig": {"distributeOps": ["repartition", "map"]}},
    {"spec__rayClusterConfig": None, "spec__trigger": {"onChange": False}, "spec__labels": []},
    {"spec__onError": "fail", "spec__maxBadRatio": 0.5, "spec__source__copy": "auto"},
    {"spec__onError": "quarantine", "spec__maxBadRatio": 0.0},
    {"metadata__labels": {"a": "b"}, "metadata__annotations": {"c": "d"}},
    {
        "spec__transform": [
            {"filter": "a > 1"}, {"select": ["a"]}, {"rename": {"a": "b"}},
            {"cast": {"b": "int"}}, {"dedupe": []}, {"repartition": 2},
        ]
    },
]  # fmt: skip


@pytest.mark.parametrize("changes", SUPPORTED, ids=range(len(SUPPORTED)))
def test_what_this_release_does_is_not_refused(changes: dict[str, Any]) -> None:
    assert unsupported(parse(manifest(**changes))) == ()


NOT_YET: list[tuple[dict[str, Any], str, str]] = [
    ({"metadata__name": "a" * 241}, "metadata.name", "more than 240 characters"),
    ({"spec__destination__secretRef": {"name": "a"}}, "spec.destination.secretRef", ""),
    ({"spec__entrypoint": "python a.py"}, "spec.entrypoint", "leave it out"),
    ({"spec__image": "a/b"}, "spec.image", "leave it out"),
    ({"spec__rayJobConfig__gpu": 0.5}, "spec.rayJobConfig.gpu", ""),
    ({"spec__rayClusterConfig": {"address": "ray://h:1"}}, "spec.rayClusterConfig", ""),
    ({"spec__trigger": {"schedule": "0 * * * *"}}, "spec.trigger", ""),
    ({"spec__labels": [{"name": "ok"}]}, "spec.labels", ""),
]
NOT_YET += [
    ({"spec__transform": [{"select": ["a"]}, {name: {"x": 1}}]}, f"spec.transform[1].{name}", "")
    for name in list(OPERATIONS)[6:]
]


@pytest.mark.parametrize(("changes", "path", "said"), NOT_YET, ids=[row[1] for row in NOT_YET])
def test_what_later_releases_do_is_named(changes: dict[str, Any], path: str, said: str) -> None:
    (problem,) = unsupported(parse(manifest(**changes)))
    assert (problem.code, problem.path) == ("not_supported_yet", path)
    assert said in problem.detail


def test_every_destination_is_named_by_its_place() -> None:
    local = {"type": "local", "format": "csv", "url": "/a"}
    vectors = {"type": "qdrant", "url": "http://h:6333/c", "vector": {"column": "t"}}
    found = unsupported(parse(manifest(spec__destination=[local, vectors])))
    assert {p.path for p in found} == {"spec.destination[1].type", "spec.destination[1].vector"}


def test_every_line_of_the_table_is_met_by_a_test() -> None:
    met = {path.split("[")[0] for _, path, _ in NOT_YET}
    met |= {"spec.destination.type", "spec.destination.vector"}
    lines = {gap.path.replace("destination[]", "destination").split("[")[0] for gap in GAPS}
    assert lines <= met


BASE = parse(manifest())


@pytest.mark.parametrize(
    ("changes", "spec", "plan"),
    [
        ({"metadata__labels": {"a": "b"}}, False, False),
        ({"metadata__name": "other"}, False, False),
        ({"apiVersion": "ml.oneblock.ai/v1alpha1"}, False, False),
        ({"spec__engine": "auto", "spec__labels": [], "spec__source__key": None}, False, False),
        ({"spec__engine": "ray"}, True, False),
        ({"spec__destination": GONE}, True, False),
        ({"spec__trigger": {"onChange": True}}, True, False),
        ({"spec__labels": [{"name": "x"}]}, True, False),
        ({"spec__source__copy": "always"}, True, False),
        ({"spec__source__secretRef": {"name": "x"}}, True, False),
        ({"spec__rayJobConfig": {"parallelism": 3, "batch_size": 7}}, True, False),
        ({"spec__image": "a/b"}, True, False),
        ({"spec__rayJobConfig": {"parallelism": 3, "distributeOps": "repartition"}}, True, True),
        ({"spec__source__type": "jsonl"}, True, True),
        ({"spec__source__url": "upload://other"}, True, True),
        ({"spec__source__filter": "*.csv"}, True, True),
        ({"spec__source__key": ["id"]}, True, True),
        ({"spec__source__options": {"header": False}}, True, True),
        ({"spec__transform": [{"filter": "a > 1"}]}, True, True),
        ({"spec__entrypoint": "a.py:f"}, True, True),
        ({"spec__onError": "quarantine"}, True, True),
    ],
)
def test_digests_change_with_what_they_stand_for(
    changes: dict[str, Any], spec: bool, plan: bool
) -> None:
    changed = parse(manifest(**changes))
    assert (spec_digest(changed) != spec_digest(BASE)) is spec
    assert (plan_digest(changed) != plan_digest(BASE)) is plan


def test_with_code_its_batches_and_image_decide_too() -> None:
    plain = manifest(spec__entrypoint="a.py:f")
    digest = plan_digest(parse(plain))
    for changes in ({"rayJobConfig": {"batch_size": 7}}, {"image": "a/b"}):
        plain = manifest(spec__entrypoint="a.py:f")
        plain["spec"] |= changes
        assert plan_digest(parse(plain)) != digest


def test_digests_never_change() -> None:
    assert spec_digest(BASE) == "0d5694dd96e73501619538de3a7b0c1a"
    assert plan_digest(BASE) == "b24550cc772458d2171415c208878c8e"


@pytest.mark.parametrize("changes", SUPPORTED + [row[0] for row in NOT_YET])
def test_the_canonical_form_is_the_same_manifest(changes: dict[str, Any]) -> None:
    dataset = parse(manifest(**changes))
    assert parse(canonical(dataset)) == dataset
    assert spec_digest(parse(canonical(dataset))) == spec_digest(dataset)
