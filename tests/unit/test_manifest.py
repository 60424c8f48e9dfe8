"""A manifest with mistakes: each is named with its path, its code, and what is allowed."""

from __future__ import annotations

import pytest

from libs.common.errors import PermanentError
from libs.common.manifest import DataSet, canonical, parse
from tests.manifests import GONE, manifest, only, problems


def test_a_short_manifest_is_complete() -> None:
    dataset = parse(manifest(spec__destination=GONE))
    assert dataset.dataset == "default/cars"
    assert dataset.spec.destination == []
    assert dataset.spec.source.url == ["upload://4f0c/cars.csv"]


FIELDS: list[tuple[dict[str, object], str, str, str]] = [
    # what is changed, the code, the path, and what is said about it
    ({"apiVersion": "core.oneblock.ai/v99"}, "unsupported_version", "apiVersion", "known: core."),
    ({"apiVersion": GONE}, "missing_field", "apiVersion", "core.oneblock.ai/v1alpha1"),
    ({"kind": "Dataset"}, "invalid_value", "kind", "did you mean 'DataSet'"),
    ({"metadata": GONE}, "missing_field", "metadata", "missing. Which dataset this is"),
    ({"metadata": "cars"}, "invalid_value", "metadata", "must be a mapping, not text"),
    ({"spec": []}, "invalid_value", "spec", "must be a mapping, not a list"),
    ({"status": {}}, "unknown_field", "status", "known: apiVersion, kind, metadata, spec"),
    ({"metadata__name": "Cars"}, "invalid_name", "metadata.name", "lower-case letters"),
    ({"metadata__name": "a" * 254}, "invalid_name", "metadata.name", "at most 253"),
    ({"metadata__name": "../../etc"}, "invalid_name", "metadata.name", "'../../etc' is no name"),
    ({"metadata__name": 7}, "invalid_value", "metadata.name", "must be text, not the number 7"),
    ({"metadata__name": "a..b"}, "invalid_name", "metadata.name", ""),
    ({"metadata__name": "-a"}, "invalid_name", "metadata.name", ""),
    ({"metadata__name": "a\n"}, "invalid_name", "metadata.name", ""),
    ({"metadata__name": GONE}, "missing_field", "metadata.name", "Name of the dataset"),
    ({"metadata__namespace": "a.b"}, "invalid_name", "metadata.namespace", "at most 63"),
    ({"metadata__namespace": "a" * 64}, "invalid_name", "metadata.namespace", ""),
    ({"metadata__labels": {"a b": "x"}}, "invalid_name", 'metadata.labels["a b"]', ""),
    ({"metadata__labels": {"UP/x": "x"}}, "invalid_name", "metadata.labels.UP/x", "DNS name"),
    ({"metadata__labels": {"a": "x" * 64}}, "invalid_value", "metadata.labels.a", "at most 63"),
    ({"metadata__labels": {"a": 1}}, "invalid_value", "metadata.labels.a", "must be text"),
    ({"metadata__labels": ["a"]}, "invalid_value", "metadata.labels", "must be a mapping"),
    ({"metadata__annotations": {"-": "x"}}, "invalid_name", "metadata.annotations.-", ""),
    (
        {"metadata__annotations": {"a": "x" * 300_000}},
        "invalid_value",
        "metadata.annotations",
        "at most 262144",
    ),
    ({"spec__source": GONE}, "missing_field", "spec.source", "Which files"),
    ({"spec__source__type": "xls"}, "invalid_value", "spec.source.type", "known: auto, binary"),
    ({"spec__source__type": "CSV"}, "invalid_value", "spec.source.type", "did you mean 'csv'?"),
    ({"spec__source__type": 3}, "invalid_value", "spec.source.type", "must be one of auto"),
    ({"spec__source__typ": "csv"}, "unknown_field", "spec.source.typ", "did you mean 'type'?"),
    ({"spec__source__format": "x"}, "unknown_field", "spec.source.format", "spec.destination."),
    ({"spec__source__url": []}, "invalid_value", "spec.source.url", "must not be empty"),
    ({"spec__source__url": {}}, "invalid_value", "spec.source.url", "not a mapping"),
    ({"spec__source__url": [7]}, "invalid_value", "spec.source.url[0]", "the number 7"),
    ({"spec__source__key": ""}, "invalid_value", "spec.source.key", "must not be empty"),
    ({"spec__source__filter": ["*"]}, "invalid_value", "spec.source.filter", "must be text"),
    ({"spec__source__copy": "maybe"}, "invalid_value", "spec.source.copy", "always, auto, never"),
    ({"spec__source__copy_": "auto"}, "unknown_field", "spec.source.copy_", "'copy'"),
    ({"spec__source__secretRef": "x"}, "invalid_value", "spec.source.secretRef", "a mapping"),
    ({"spec__source__secretRef": {"name": "A"}}, "invalid_name", "spec.source.secretRef.name", ""),
    ({"spec__source__options": [1]}, "invalid_value", "spec.source.options", "must be a mapping"),
    ({"spec__destination": "x"}, "invalid_value", "spec.destination", "must be a mapping"),
    ({"spec__destination__type": "ftp"}, "invalid_value", "spec.destination.type", "qdrant"),
    ({"spec__destination__format": GONE}, "missing_field", "spec.destination.format", "parquet"),
    ({"spec__destination__url": GONE}, "missing_field", "spec.destination.url", "Folder"),
    ({"spec__destination__url": "s3://b/x"}, "invalid_value", "spec.destination.url", "file://"),
    ({"spec__destination__vector": {}}, "invalid_value", "spec.destination.vector", "qdrant"),
    ({"spec__image": 3}, "invalid_value", "spec.image", "must be a mapping, not the number 3"),
    ({"spec__image": {"name": "a b"}}, "invalid_value", "spec.image.name", "pattern"),
    ({"spec__rayJobConfig__gpu": -1}, "invalid_value", "spec.rayJobConfig.gpu", "at least 0"),
    ({"spec__rayJobConfig__gpu": "1"}, "invalid_value", "spec.rayJobConfig.gpu", "not text"),
    ({"spec__rayJobConfig__gpu": 10**6}, "invalid_value", "spec.rayJobConfig.gpu", "most 1024"),
    (
        {"spec__rayJobConfig__parallelism": 1.5},
        "invalid_value",
        "spec.rayJobConfig.parallelism",
        "must be a whole number, not the number 1.5",
    ),
    (
        {"spec__rayJobConfig__parallelism": True},
        "invalid_value",
        "spec.rayJobConfig.parallelism",
        "must be a whole number, not true",
    ),
    (
        {"spec__rayJobConfig__distributeOps": ["map", "mpa"]},
        "invalid_value",
        "spec.rayJobConfig.distributeOps[1]",
        "did you mean 'map'?",
    ),
    (
        {"spec__rayJobConfig__runtime_env": {}},
        "unknown_field",
        "spec.rayJobConfig.runtime_env",
        "known: batch_size",
    ),
    (
        {"spec__rayClusterConfig__address": "http://x"},
        "invalid_value",
        "spec.rayClusterConfig.address",
        "known: ray://",
    ),
    ({"spec__trigger": {"onchange": True}}, "unknown_field", "spec.trigger.onchange", "onChange"),
    ({"spec__engine": "spark"}, "invalid_value", "spec.engine", "known: auto, local, ray"),
    ({"spec__onError": "ignore"}, "invalid_value", "spec.onError", "fail, quarantine"),
    ({"spec__maxBadRatio": 2}, "invalid_value", "spec.maxBadRatio", "must be at most 1, not 2"),
    ({"spec__url": "x"}, "unknown_field", "spec.url", "it belongs to spec.source.url"),
    ({"spec__transform": {"filter": "a"}}, "invalid_value", "spec.transform", "must be a list"),
]


@pytest.mark.parametrize(
    ("changes", "code", "path", "said"),
    FIELDS,
    ids=[f"{row[2]}-{i}" for i, row in enumerate(FIELDS)],
)
def test_a_field_that_is_wrong_is_named(
    changes: dict[str, object], code: str, path: str, said: str
) -> None:
    problem = only(manifest(**changes))
    assert (problem.code, problem.path) == (code, path)
    assert said in problem.detail


def test_all_problems_are_told_at_once() -> None:
    wrong = manifest(
        kind="Set",
        metadata__name="Cars",
        spec__source={"typ": "csv", "url": ["ftp://x", "file:///a/../b"]},
        spec__destination=[{"type": "local", "format": "xls", "url": "/o"}, {"type": "s3"}],
        spec__transform=[{"fliter": "a"}, {"select": []}],
        spec__entrypoint="x.py; rm",
    )
    assert {(p.path, p.code) for p in problems(wrong)} == {
        ("kind", "invalid_value"),
        ("metadata.name", "invalid_name"),
        ("spec.source.type", "missing_field"),
        ("spec.source.typ", "unknown_field"),
        ("spec.source.url[0]", "invalid_value"),
        ("spec.source.url[1]", "invalid_value"),
        ("spec.destination[0].format", "invalid_value"),
        ("spec.destination[1].url", "missing_field"),
        ("spec.destination[1].format", "missing_field"),
        ("spec.transform[0].fliter", "unknown_op"),
        ("spec.transform[1].select", "invalid_value"),
        ("spec.entrypoint", "invalid_value"),
    }


def test_the_error_is_permanent_and_readable() -> None:
    with pytest.raises(PermanentError) as caught:
        parse(manifest(spec__source__type="xls", spec__engine="x", kind="y", spec__onError="z"))
    assert caught.value.code == "invalid_manifest"
    assert caught.value.detail.startswith("the manifest has 4 problems: kind: unknown 'y'")
    assert caught.value.detail.endswith("and 1 more")


def test_a_hopeless_manifest_is_answered_with_its_first_hundred_problems() -> None:
    hopeless = manifest(spec={f"field{i}": i for i in range(20_000)})
    assert len(problems(hopeless)) == 100


EMPTY = """
apiVersion: ml.oneblock.ai/v1alpha1
kind: DataSet
metadata: {name: cars, labels: , annotations: null}
spec:
  source: {type: csv, url: upload://x, filter: , key: ~, options: }
  destination:
  rayJobConfig: {gpu: , distributeOps: }
  rayClusterConfig:
  transform:
  maxBadRatio:
"""


def test_a_block_without_a_value_is_absent() -> None:
    written = parse(EMPTY)
    plain = manifest(apiVersion="ml.oneblock.ai/v1alpha1", spec__destination=GONE)
    plain["spec"] = {"source": {"type": "csv", "url": "upload://x"}, "rayJobConfig": {}}
    assert canonical(written) == canonical(parse(plain))


def test_a_required_field_without_a_value_is_missing() -> None:
    assert only(manifest(spec__source__type=None)).code == "missing_field"
    assert only(manifest(spec__source=None)).path == "spec.source"


def test_an_unknown_field_without_a_value_is_told_too() -> None:
    assert only(manifest(spec__entrypiont=None)).path == "spec.entrypiont"


def test_one_thing_may_stand_without_a_list() -> None:
    alone = parse(manifest(spec__source__key="id", spec__rayJobConfig={"distributeOps": "map"}))
    listed = parse(
        manifest(spec__source__key=["id"], spec__rayJobConfig={"distributeOps": ["map"]})
    )
    assert canonical(alone) == canonical(listed)


def test_an_image_may_be_its_name() -> None:
    assert parse(manifest(spec__image="a/b:c")) == parse(manifest(spec__image={"name": "a/b:c"}))


@pytest.mark.parametrize("name", ["a", "a-1.b", "0", "a" * 253, "x--y"])
def test_names_follow_rfc_1123(name: str) -> None:
    assert parse(manifest(metadata__name=name)).metadata.name == name


def test_labels_follow_kubernetes() -> None:
    labels = {"app": "", "example.com/Owner_1": "A.b-c_d", "x" * 63: "y" * 63}
    assert parse(manifest(metadata__labels=labels)).metadata.labels == labels


def test_a_dataset_is_frozen() -> None:
    dataset: DataSet = parse(manifest())
    with pytest.raises(ValueError, match="frozen"):
        dataset.spec.engine = "ray"  # type: ignore[misc]
