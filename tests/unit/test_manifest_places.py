"""URLs, credentials and entrypoints: what is let through, and what never is, without echoing it."""

from __future__ import annotations

import pytest

from libs.common.manifest import parse
from libs.common.manifest.entrypoint import Entrypoint, read
from libs.common.manifest.urls import shown
from tests.manifests import GONE, manifest, only, problems

CANARY = "cAnArY9vX2"


@pytest.mark.parametrize(
    "url",
    [
        "upload://4f0c/cars.csv",
        "upload://me@home.csv",
        "http://example.com/a.csv?page=2",
        "https://example.com:8443/a%20b.csv",
        "nfs://server/export/in",
        "s3://bucket/prefix/*.csv",
        "file:///data/my files/a.csv",
        "file://localhost/data/in",
        "file:///data/**/[ab]?.csv",
        "FILE:///data/..hidden/a...b.csv",
    ],
)
def test_a_source_may_be(url: str) -> None:
    alone = manifest(spec__source__url=url, spec__destination=GONE)
    assert parse(alone).spec.source.url == [url]


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("cars.csv", "invalid_value", "oneblock upload"),
        ("/data/cars.csv", "invalid_value", "file:///"),
        ("", "invalid_value", "1 to 4096"),
        ("s3://b/" + "x" * 4096, "invalid_value", "1 to 4096"),
        ("gopher://x/y", "invalid_value", "unknown scheme 'gopher'; known: upload://"),
        ("local:///etc", "invalid_value", "unknown scheme 'local'"),
        ("ftp//x", "invalid_value", "no scheme"),
        ("file://data/in.csv", "invalid_value", "three slashes"),
        ("file://", "invalid_value", "absolute path"),
        ("s3://", "invalid_value", "after s3://"),
        ("s3:///key", "invalid_value", "after s3://"),
        ("http://:80/x", "invalid_value", "no host"),
        ("http://[::1/x", "invalid_value", "can't be read"),
        ("http://x:99999/y", "invalid_value", "can't be read"),
        ("file:///a/../b", "invalid_value", "'..'"),
        ("file:///a/%2e%2e/b", "invalid_value", "'..'"),
        ("file:///a/..%2fb", "invalid_value", "'..'"),
        ("file:///a/%252e%252e/b", "invalid_value", "'..'"),
        ("file:///a%00b", "invalid_value", "NUL"),
        ("file:///a\\b", "invalid_value", "'\\'"),
        ("file:///a\nb", "invalid_value", "control"),
        (" file:///a", "invalid_value", "outer spaces"),
        (f"http://user:{CANARY}@h/x", "userinfo_forbidden", "secretRef"),
        (f"s3://{CANARY}@bucket/x", "userinfo_forbidden", "secretRef"),
        (f"upload://a:{CANARY}@b", "userinfo_forbidden", "secretRef"),
        (f"https://h/x?X-Amz-Signature={CANARY}", "inline_secret", "secretRef"),
        (f"https://h/x?a=1&sig={CANARY}", "inline_secret", "secretRef"),
        (f"https://h/x?access_token={CANARY}", "inline_secret", "secretRef"),
        (f"htps://user:{CANARY}@h/x", "invalid_value", "unknown scheme 'htps'"),
        (f"{CANARY}://h", "invalid_value", "scheme"),
    ],
)
def test_a_source_may_not_be(url: str, code: str, said: str) -> None:
    problem = only(manifest(spec__source__url=["upload://fine", url], spec__destination=GONE))
    assert (problem.code, problem.path) == (code, "spec.source.url[1]")
    assert said in problem.detail
    assert CANARY not in problem.detail


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("local", "/data/out"),
        ("local", "file:///data/out"),
        ("nfs", "nfs://server/export"),
        ("s3", "s3://bucket"),
        ("qdrant", "http://localhost:6333/cars"),
    ],
)
def test_a_destination_may_be(kind: str, url: str) -> None:
    target = {"type": kind, "url": url, "format": "parquet"}
    assert parse(manifest(spec__destination=target)).spec.destination[0].url == url


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("local", "out"),
        ("local", "s3://b/x"),
        ("local", "/data/../etc"),
        ("local", "/data/\0x"),
        ("nfs", "/data/out"),
        ("s3", "https://bucket.example.com/x"),
        ("qdrant", "s3://b/x"),
        ("qdrant", "upload://x"),
    ],
)
def test_a_destination_may_not_be(kind: str, url: str) -> None:
    target = {"type": kind, "url": url, "format": "parquet"}
    assert only(manifest(spec__destination=target)).path == "spec.destination.url"


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("file:///data", "file:///data"),
        ("file:///data/", "/data/out"),
        ("file:///data", "file://localhost/data/./out"),
        ("file:///data/*.csv", "/data"),
        ("file:///data/*/*.csv", "/data/out"),
        ("file:///data/**/*.csv", "/data/a/b/c"),
        ("file:///da%74a", "/data/out"),
    ],
)
def test_a_destination_inside_its_own_source_is_a_loop(source: str, destination: str) -> None:
    target = {"type": "local", "url": destination, "format": "csv"}
    problem = only(manifest(spec__source__url=source, spec__destination=target))
    assert (problem.code, problem.path) == ("loop", "spec.destination.url")


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("file:///data/in", "/data/out"),
        ("file:///data/*.csv", "/data/out"),
        ("file:///data/in.csv", "/data"),
        ("file:///data", "/database"),
        ("file:///in/**/*.csv", "/out"),
    ],
)
def test_a_destination_beside_its_source_is_fine(source: str, destination: str) -> None:
    target = {"type": "local", "url": destination, "format": "csv"}
    assert parse(manifest(spec__source__url=source, spec__destination=target))


def test_two_destinations_need_two_places() -> None:
    first = {"type": "local", "url": "/data/out", "format": "csv"}
    second = first | {"url": "file:///data//out/", "format": "parquet"}
    problem = only(manifest(spec__destination=[first, second]))
    assert (problem.code, problem.path) == ("duplicate_destination", "spec.destination[1].url")
    assert "spec.destination[0]" in problem.detail


def test_a_source_given_twice_is_told() -> None:
    problem = only(manifest(spec__source__url=["upload://a", "upload://b", "upload://a"]))
    assert problem.path == "spec.source.url[2]"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"spec__source__options": {"password": CANARY}}, "spec.source.options.password"),
        ({"spec__source__options": {"a": {"db_token": CANARY}}}, "spec.source.options.a.db_token"),
        ({"spec__destination__secretKey": CANARY}, "spec.destination.secretKey"),
        ({"spec__entrypoint": "python a.py --key AKIAIOSFODNN7EXAMPLE"}, "spec.entrypoint"),
        ({"metadata__annotations": {"x": "AKIAIOSFODNN7EXAMPLE"}}, "metadata.annotations.x"),
        ({"spec__engine": "ghp_" + "a" * 36}, "spec.engine"),
        (
            {"spec__transform": [{"filter": "k = 'AKIAIOSFODNN7EXAMPLE'"}]},
            "spec.transform[0].filter",
        ),
    ],
)
def test_a_credential_written_out_is_refused_and_not_repeated(
    changes: dict[str, object], path: str
) -> None:
    problem = only(manifest(**changes))
    assert (problem.code, problem.path) == ("inline_secret", path)
    assert not any(word in str(problem) for word in (CANARY, "AKIAIO", "ghp_"))


def test_columns_may_be_called_like_credentials() -> None:
    steps = [{"rename": {"password": "pw"}}, {"cast": {"token": "string"}}]
    assert parse(manifest(spec__transform=steps)).spec.transform == steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("code.py:clean", Entrypoint("function", "code.py", "clean")),
        ("src/my-code.py:Model.run", Entrypoint("function", "src/my-code.py", "Model.run")),
        ("pkg.mod:clean", Entrypoint("function", "pkg.mod", "clean")),
        ("python a.py", Entrypoint("script", "a.py")),
        ("python /ray/a.py -n 3 'b c'", Entrypoint("script", "/ray/a.py", "", ("-n", "3", "b c"))),
        ("python3 ./a.py x=1", Entrypoint("script", "./a.py", "", ("x=1",))),
    ],
)  # fmt: skip
def test_an_entrypoint_has_one_of_three_forms(text: str, expected: Entrypoint) -> None:
    assert read(text) == expected
    assert parse(manifest(spec__entrypoint=text)).spec.entrypoint == text


@pytest.mark.parametrize(
    "text",
    [
        "../x.py", "../x.py:f", "/bin/sh", "x.py; rm", "x.py", "python", "python x.sh", "sh x.py",
        "python -c 'print(1)'", "python -m http", "python a.py `id`", "python a.py $HOME",
        "python a.py | tee", "python a.py > /etc/passwd", "python 'a.py", "python a/../b.py",
        "a.py:f()", "a.py:1f", ":f", "a.py:", "python a.py\nrm", "a.py:f && true", "x y.py:f",
    ],
)  # fmt: skip
def test_an_entrypoint_of_another_form_is_refused(text: str) -> None:
    problem = only(manifest(spec__entrypoint=text))
    assert (problem.code, problem.path) == ("invalid_value", "spec.entrypoint")
    assert "allowed: file.py:function" in problem.detail


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://u:p@h:1/a?sig=x#y", "https://h:1/a"),
        ("s3://b/k@x/y", "s3://b/k@x/y"),
        ("http://h?token=x", "http://h"),
        ("file:///a b", "file:///a b"),
        ("nonsense", "…"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, safe: str) -> None:
    assert shown(url) == safe


@pytest.mark.parametrize("steps", [[{}], [{"filter": "a", "select": ["b"]}], ["filter"], [3]])
def test_a_step_is_one_operation(steps: list[object]) -> None:
    found = problems(manifest(spec__transform=steps))
    assert {problem.path for problem in found} == {"spec.transform[0]"}


@pytest.mark.parametrize(
    ("step", "code", "path", "said"),
    [
        ({"fliter": "a"}, "unknown_op", "fliter", "did you mean 'filter'"),
        ({"filter": ""}, "invalid_value", "filter", "SQL condition"),
        ({"filter": "  "}, "invalid_value", "filter", "SQL condition"),
        ({"filter": 3}, "invalid_value", "filter", "must be text, not the number 3"),
        ({"filter": None}, "invalid_value", "filter", "must be text, not nothing"),
        ({"filter": "x" * 10_001}, "invalid_value", "filter", "at most 10000"),
        ({"select": []}, "invalid_value", "select", "must not be empty"),
        ({"select": ["a", "a"]}, "invalid_value", "select", "named twice"),
        ({"select": ["a", "_row"]}, "invalid_value", "select[1]", "system column"),
        ({"select": [""]}, "invalid_value", "select[0]", "must not be empty"),
        ({"select": {"a": 1}}, "invalid_value", "select", "must be a list, not a mapping"),
        ({"rename": {}}, "invalid_value", "rename", "must not be empty"),
        ({"rename": {"a": "c", "b": "c"}}, "invalid_value", "rename", "'c' is named twice"),
        ({"rename": {"a": "_hash"}}, "invalid_value", "rename.a", "system column"),
        ({"rename": ["a"]}, "invalid_value", "rename", "must be a mapping, not a list"),
        ({"cast": {"a": "integr"}}, "invalid_value", "cast.a", "known: bool, int8"),
        ({"cast": {"a": 1}}, "invalid_value", "cast.a", "must be text"),
        ({"cast": {"a": "decimal(50)"}}, "invalid_value", "cast.a", "decimal(p,s)"),
        ({"dedupe": 1}, "invalid_value", "dedupe", "must be a list"),
        ({"dedupe": ["a", "a"]}, "invalid_value", "dedupe", "named twice"),
        ({"repartition": 0}, "invalid_value", "repartition", "at least 1"),
        ({"repartition": 10**5}, "invalid_value", "repartition", "at most 10000"),
        ({"repartition": "4"}, "invalid_value", "repartition", "must be a whole number"),
    ],
)
def test_arguments_of_operations_are_checked(
    step: dict[str, object], code: str, path: str, said: str
) -> None:
    problem = only(manifest(spec__transform=[{"select": ["a"]}, step]))
    assert (problem.code, problem.path) == (code, f"spec.transform[1].{path}")
    assert said in problem.detail


@pytest.mark.parametrize(
    ("step", "normal"),
    [
        ({"select": "a"}, {"select": ["a"]}),
        ({"dedupe": "all"}, {"dedupe": []}),
        ({"dedupe": None}, {"dedupe": []}),
        ({"dedupe": "a"}, {"dedupe": ["a"]}),
        ({"cast": {"a": "Integer"}}, {"cast": {"a": "int64"}}),
        ({"cast": {"a": "numeric(10, 2)"}}, {"cast": {"a": "decimal(10,2)"}}),
        ({"chunk": {"size": 3}}, {"chunk": {"size": 3}}),
    ],
)
def test_arguments_have_one_spelling_afterwards(
    step: dict[str, object], normal: dict[str, object]
) -> None:
    assert parse(manifest(spec__transform=[step])).spec.transform == [normal]


def test_overlap_must_be_less_than_the_chunk() -> None:
    target = {
        "type": "qdrant",
        "url": "http://h:6333/c",
        "vector": {"chunkSize": 9, "chunkOverlap": 9},
    }
    assert only(manifest(spec__destination=target)).path == "spec.destination.vector.chunkOverlap"
    assert parse(manifest(spec__destination=GONE))
