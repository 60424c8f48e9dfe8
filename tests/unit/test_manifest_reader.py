"""YAML and JSON as they come: what is refused before anything of it is believed."""

from __future__ import annotations

import json
import time
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.manifest import ManifestError, parse
from libs.common.manifest.reader import MAX_BYTES, read
from tests.manifests import WHOLE, manifest, only

# A busy machine is no failure.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("---\na: 1\n...\n", {"a": 1}),
        ("\ufeffa: 1", {"a": 1}),
        ('{"a": [1, 2.5, true, null, "\\ud83d\\ude00"]}', {"a": [1, 2.5, True, None, "😀"]}),
        ('{"a":\t1}', {"a": 1}),
        ("{a: b}", {"a": "b"}),
        ("a: no\nb: on\nc: yes\nd: NO", {"a": "no", "b": "on", "c": "yes", "d": "NO"}),
        ("a: 2026-01-01\nb: 1:30", {"a": "2026-01-01", "b": "1:30"}),
        ("a: 0x1F\nb: 0o17\nc: 017\nd: -3", {"a": 31, "b": 15, "c": 17, "d": -3}),
        ("a: .5\nb: 1e3\nc: 1.\nd: '1'", {"a": 0.5, "b": 1000.0, "c": 1.0, "d": "1"}),
        ("a: ~\nb:\nc: Null\nd: ''", {"a": None, "b": None, "c": None, "d": ""}),
        ("a: !!str 5\nb: ! 6", {"a": "5", "b": "6"}),
        ("1: x\ntrue: y", {"1": "x", "true": "y"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: >-\n  x\n  y\n", {"a": "x y"}),
    ],
)
def test_values_are_read_by_the_core_schema(text: str, value: object) -> None:
    assert read(text) == value
    assert read(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("- a", "is a list"),
        ("just words", "is a str"),
        ("a: [1, 2", "line "),
        ("a: b: c", "line 1"),
        ("a: 'x", "line 1"),
        ("a: @x", "line 1"),
        ("a: %x", "line 1"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2", "line 3: the key 'b' is given twice"),
        ("a: {b: 1, 'b': 2}", "the key 'b' is given twice"),
        ("a:\n\tb: 1", "line 2: a tab indents this line"),
        ("a:\n  b: 1\n \tc: 2", "line 3: a tab indents this line"),
        ("a: 1\n---\na: 2", "line 2: a second document"),
        ("!!python/object/apply:os.system ['id']", "the tag 'tag:yaml.org,2002:python"),
        ("a: !!python/name:os.system", "line 1: the tag"),
        ("a: !!binary aGk=", "line 1: the tag"),
        ("a: !!set {x}", "line 1: the tag"),
        ("a: !mine x", "line 1: the tag '!mine'"),
        ("? [a]\n: b", "a key is a plain word"),
        ("!!python/name:os.system : b", "a key is a plain word"),
        ("*a : b", "a key is a plain word"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "line 3: merge keys"),
        ("a: *x", "line 1: the alias *x names nothing"),
        ("a: &x [*x]", "the alias *x names nothing"),
        ("a: .nan", "no finite number"),
        ("a: -.inf", "no finite number"),
        ("a: 1e999", "not a finite number"),
        ("a: 18446744073709551616", "64 bits"),
        ("a: " + "9" * 5000, "not a finite number"),
        ('a: "\\0"', "NUL"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "Infinity is no JSON number"),
        ('{"a": 1e999}', "not a finite number"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"a": 1,}', "line 1: not JSON"),
        ('{"a": 1} x', "line 1: not JSON"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\ud800": 1}', "surrogate"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("a: \x07", "not allowed"),
        ("\x00", "not allowed"),
        ("a: " + "[" * 100_000, "nested deeper than 32"),
        ("{" * 100_000, "a key is a plain word"),
        ('{"a": ' + "[" * 100_000, "nested deeper than 32"),
        (json.dumps(nested(40)), "nested deeper than 32"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_not_a_safe_mapping_is_refused(text: str, said: str) -> None:
    problem = only(text)
    assert problem.code in ("invalid_yaml", "invalid_value")
    assert said in str(problem)


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"a: \xc3("])
def test_bytes_that_are_no_text_are_refused(body: bytes) -> None:
    assert "not UTF-8 at byte" in only(body).detail


def test_a_manifest_has_a_largest_size() -> None:
    assert only("a" * (MAX_BYTES + 1)).code == "too_large"
    assert only(manifest(spec__source__filter="x" * MAX_BYTES)).code == "too_large"


def laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 [" + ", ".join(["lol"] * width) + "]"]
    for level in range(1, levels):
        references = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{references}]")
    return "\n".join(lines)


@pytest.mark.parametrize(("levels", "width"), [(30, 2), (6, 10), (3, 60)])
def test_an_alias_bomb_is_refused_at_once(levels: int, width: int) -> None:
    start = time.monotonic()
    detail = only(laughs(levels, width)).detail
    assert "aliases" in detail
    assert time.monotonic() - start < 10


def test_many_aliases_are_refused() -> None:
    assert "more than 64 aliases" in only("a: &x 1\n" + "b: [" + "*x, " * 65 + "]").detail


@pytest.mark.parametrize(
    "text",
    [
        "a: [" + "x, " * 160_000 + "]",
        "\n".join(f"k{i}: v" for i in range(50_000)),
        "? " * 100_000,
        "a: '" + "\\x" * 100_000,
        "- " * 200_000,
        "a: " + "&x " * 100_000,
        "{a: " * 100_000,
        '"' * 400_000,
        "a:\n" + " " * 500_000 + "b",
        "x" * 500_000 + ": 1",
        "#" * 500_000,
        "a: !" + "x" * 500_000,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_half_a_megabyte_of_anything_is_answered_soon(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(ManifestError):
        parse(text)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "changes",
    [
        {"spec__source__url": [f"file:///a{i}" for i in range(20_000)]},
        {"spec__destination": [{"type": "local", "url": f"/a{i}"} for i in range(9_000)]},
        {"spec__transform": [{f"fil{i}": 1} for i in range(20_000)]},
        {"spec__transform": [{"rename": {f"a{i}": "b" for i in range(20_000)}}]},
        {"metadata__labels": {f"a {i}": "x y" for i in range(20_000)}},
        {"spec__source__url": "file:///" + "%25" * 100_000},
        {"x" * 400_000: 1},
    ],
    ids=range(7),
)
def test_half_a_megabyte_of_mistakes_is_answered_soon(changes: dict[str, Any]) -> None:
    start = time.monotonic()
    with pytest.raises(ManifestError):
        parse(manifest(**changes))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1: 2}, "the key 1 is no text"),
        ({"a": {1, 2}}, "a: a set is no JSON value"),
        ({"a": date(2026, 1, 1)}, "a: a date is no JSON value"),
        ({"a": b"x"}, "a: a bytes is no JSON value"),
        ({"a": [float("nan")]}, "a[0]: not a finite number"),
        (nested(40), "nested deeper than 32"),
    ],
)
def test_a_mapping_holds_json_values_alone(value: dict[str, Any], said: str) -> None:
    assert said in str(only(value))


@pytest.mark.parametrize("value", [None, 3, "x", ["a"]])
def test_a_manifest_is_a_mapping(value: object) -> None:
    with pytest.raises(ManifestError):
        parse(value)  # type: ignore[arg-type]


def test_text_json_and_mapping_say_the_same() -> None:
    assert parse(json.dumps(WHOLE)) == parse(json.dumps(WHOLE).encode()) == parse(WHOLE)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NAMES = """
apiVersion kind metadata name namespace labels spec source type url filter key copy options
secretRef destination format vector entrypoint image rayJobConfig distributeOps parallelism
transform select rename cast dedupe trigger engine onError
"""
FIELDS = st.sampled_from(NAMES.split())
SHAPED = st.recursive(
    JSON | st.sampled_from(["csv", "DataSet", "s3://b/x", "file:///a/*", "http://[", "//@:x", "/"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=6),
    max_leaves=30,
)


def survives(value: Any) -> None:
    """Either a dataset, or a ManifestError whose problems can be shown."""
    try:
        shown = parse(value).dataset
    except ManifestError as error:
        shown = "\n".join(map(str, error.problems[:100]))
    assert shown.encode(errors="surrogatepass")


@PATIENT
@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    survives(text)


@PATIENT
@given(st.binary())
def test_any_bytes_are_answered(body: bytes) -> None:
    survives(body)


@PATIENT
@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@` \n\t#ab1.\\~<"))
def test_any_yaml_punctuation_is_answered(text: str) -> None:
    survives(text)


@PATIENT
@given(st.dictionaries(FIELDS, SHAPED))
def test_any_mapping_is_answered(value: dict[str, Any]) -> None:
    survives(value)


@PATIENT
@given(st.dictionaries(FIELDS, SHAPED), st.dictionaries(FIELDS, SHAPED))
def test_any_parts_are_answered(source: dict[str, Any], spec: dict[str, Any]) -> None:
    survives(manifest(spec={**spec, "source": source}))


@PATIENT
@given(st.sampled_from(["source", "destination"]), SHAPED)
def test_any_url_is_answered(part: str, url: Any) -> None:
    value = manifest()
    value["spec"][part]["url"] = url
    survives(value)


@PATIENT
@given(SHAPED)
def test_any_step_is_answered(step: Any) -> None:
    survives(manifest(spec__transform=[step]))
