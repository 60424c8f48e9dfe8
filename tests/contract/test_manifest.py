"""The manifest as others see it: the customer's own, the docs, the JSON Schema, the CRD."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from libs.common.manifest import canonical, parse, unsupported
from libs.common.manifest.generate import CRD, ROOT, SCHEMA, crd, files, json_schema, main
from libs.common.manifest.model import DestinationFormat, SourceType
from libs.common.manifest.operations import CAST_TYPES, OPERATIONS
from libs.common.manifest.parse import field_paths
from libs.common.manifest.supported import GAPS
from libs.formats import FORMATS
from services.sink.destinations import DESTINATIONS
from services.transform.operations import OPERATIONS as BUILT
from services.transform.operations.cast import type_called
from tests.manifests import manifest

PROPOSAL = Path(__file__).parent / "manifests" / "proposal.yaml"
DOCS = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
SCHEMA_CHECK = Draft202012Validator(json_schema())


def test_the_proposal_parses_verbatim() -> None:
    spec = parse(PROPOSAL.read_bytes()).spec
    assert spec.source.url == ["https://oneblock.ai/sample.pdf"]
    assert [(d.type, d.format, d.url) for d in spec.destination] == [
        ("s3", "parquet", "s3://oneblock-ai/dataset")
    ]
    assert spec.entrypoint == "python /home/ray/samples/sample_code.py"
    assert spec.image is not None
    assert spec.image.pullPolicy == "Always"
    assert spec.rayJobConfig is not None
    assert (spec.rayJobConfig.distributeOps, spec.rayJobConfig.batch_size) == (["map"], 100)
    assert spec.rayClusterConfig is None


def test_the_older_group_is_an_alias() -> None:
    text = PROPOSAL.read_text().replace("core.oneblock.ai", "ml.oneblock.ai", 1)
    assert parse(text).spec == parse(PROPOSAL.read_text()).spec


def test_what_the_proposal_needs_and_isnt_there_yet_is_named() -> None:
    assert {problem.path for problem in unsupported(parse(PROPOSAL.read_bytes()))} == {
        "spec.destination.type", "spec.entrypoint",
        "spec.image",
    }  # fmt: skip


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_docs_parses_and_fits_the_schema(text: str) -> None:
    dataset = parse(text)
    assert not list(SCHEMA_CHECK.iter_errors(yaml.safe_load(text)))
    assert not list(SCHEMA_CHECK.iter_errors(canonical(dataset)))


def test_the_docs_name_every_field() -> None:
    blocks = {"metadata", "spec", "spec.source", "spec.destination", "spec.transform"}
    wanted = {path for path in field_paths() if "." in path} - blocks
    wanted -= {path for path in wanted if path.endswith("secretRef.name")} | {"spec.trigger"}
    missing = [path for path in sorted(wanted) if f"| `{path}` |" not in DOCS]
    assert not missing


def test_every_field_is_shown_in_an_example() -> None:
    shown = {path for text in EXAMPLES for path in paths_of(yaml.safe_load(text), "")}
    assert set(field_paths()) <= shown


def paths_of(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if path else str(key)
            yield here
            yield from paths_of(item, here)
    elif isinstance(value, list):
        for item in value:
            yield from paths_of(item, path)


@pytest.mark.parametrize("gap", GAPS, ids=[gap.path for gap in GAPS])
def test_the_docs_name_what_is_not_there_yet(gap: Any) -> None:
    section = DOCS.partition("## Not yet")[2]
    name = gap.path.replace("[]", "")
    assert f"`{name}`" in section or f"`{name.removeprefix('spec.transform.')}`" in section
    assert all(f"`{works}`" in section for works in gap.but)


def works_now(path: str) -> set[str]:
    return {value for gap in GAPS if gap.path == path for value in gap.but}


def test_what_is_said_to_work_is_what_is_built() -> None:
    assert set(get_args(DestinationFormat)) == set(FORMATS.keys())
    assert set(get_args(SourceType)) == {"auto", *FORMATS.keys()}
    assert works_now("spec.destination[].type") == set(DESTINATIONS.keys())
    later = {gap.path.rpartition(".")[2] for gap in GAPS if "transform[]" in gap.path}
    assert set(OPERATIONS) - later == set(BUILT.keys())


@pytest.mark.parametrize("name", [*CAST_TYPES, "decimal(10,2)"])
def test_transform_knows_every_type_of_the_contract(name: str) -> None:
    assert type_called(name) is not None


def test_the_generated_files_are_up_to_date() -> None:
    for path, text in files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, "run the generator"


def test_the_check_says_what_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("libs.common.manifest.generate.ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert f"{CRD} is out of date: run `python -m" in capsys.readouterr().out
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / SCHEMA).write_text("{}")
    assert main(["--check"]) == 1
    assert main(["--wrong"]) == 2


def test_the_generator_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "libs.common.manifest.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_schema_is_a_schema_and_describes_every_field() -> None:
    Draft202012Validator.check_schema(json_schema())
    parts = [json_schema(), *json_schema()["$defs"].values()]
    fields = [f for part in parts for f in part.get("properties", {}).items()]
    assert not [name for name, field in fields if not {"description", "$ref"} & set(field)]


@pytest.mark.parametrize(
    "changes",
    [
        {"spec__source__typ": "csv"},
        {"spec__source__type": "xls"},
        {"metadata__name": "Cars"},
        {"spec__transform": [{"fliter": "x"}]},
        {"spec__transform": [{"filter": "x", "select": ["a"]}]},
        {"spec__rayJobConfig": {"gpu": "1"}},
        {"kind": "Dataset"},
    ],
)
def test_the_schema_refuses_what_an_editor_should_mark(changes: dict[str, Any]) -> None:
    assert list(SCHEMA_CHECK.iter_errors(manifest(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"spec__source__url": ["upload://a"]},
        {"spec__destination": [], "spec__rayClusterConfig": None, "spec__transform": None},
        {"spec__image": "a/b", "metadata__labels": None, "spec__engine": None},
        {"spec__transform": [{"dedupe": "all"}, {"dedupe": None}, {"cast": {"a": "decimal(3,1)"}}]},
    ],
)
def test_the_schema_accepts_every_spelling(changes: dict[str, Any]) -> None:
    assert parse(manifest(**changes))
    assert not list(SCHEMA_CHECK.iter_errors(manifest(**changes)))


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    inner = dict(schema.get("properties", {}))
    inner |= {key: schema[key] for key in ("items", "additionalProperties") if key in schema}
    for name, below in inner.items():
        yield from nodes(below, f"{path}.{name}")


def test_the_crd_has_a_structural_schema() -> None:
    """https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/
    custom-resource-definitions/#specifying-a-structural-schema
    """
    (version,) = crd()["spec"]["versions"]  # type: ignore[index]
    for path, node in nodes(version["schema"]["openAPIV3Schema"], ""):
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields") is True, path
        forbidden = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "not", "const", "title"}
        assert not forbidden & set(node), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert isinstance(node.get("type", ""), str), path
        assert node.get("default", {}) is not None, path


def test_the_crd_is_named_by_its_group() -> None:
    loaded = yaml.safe_load((ROOT / CRD).read_text(encoding="utf-8"))
    assert loaded == json.loads(json.dumps(crd()))
    spec = loaded["spec"]
    assert loaded["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
