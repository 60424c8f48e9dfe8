"""Every source × every format × both engines: each value as it was; and no secret in sight."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.e2e.canary import answered, hits, overheard, written
from tests.e2e.sources import CELLS, ENGINES, Cell, Manifest, Places, manifest, open_places
from tests.kinds import KINDS, Row
from tests.objectstore import ADMIN, BUCKET
from tests.webs import File, answer, redirect

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(420),
]
TOKEN = "canary/token+of=a;page?it&is"  # of a web page
WRONG = ("CANARYKEYID", "canary+of/a=wrong key")  # of nobody in the bucket
SECRETS = (TOKEN, *WRONG, *ADMIN)

# What is asked for with a secret, and the code that it must end with.
ENDS = {
    "good": "",
    "no-bucket": "source_not_found",
    "bad-row": "parse_error",
    "half-bad": "",
    "wrong-key": "source_forbidden",
    "page": "",
    "page-read": "",
    "page-echo": "source_forbidden",
    "page-away": "redirect_forbidden",
}
Texts = dict[str, bytes]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    mounted = tmp_path_factory.mktemp("secrets")  # as Kubernetes mounts one
    (mounted / "page").mkdir()
    (mounted / "page" / "token").write_text(TOKEN)
    with open_places({"ONEBLOCK_SECRETS_DIR": str(mounted)}) as found:
        yield found


@pytest.fixture(scope="module")
def begun(places: Places) -> Places:
    """All cells have been asked for; they are worked on while the first is looked at."""
    places.begin()
    return places


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_every_value_arrives(begun: Places, cell: Cell) -> None:
    run = begun.ended(cell.name)
    assert (run.state, run.version) == ("succeeded", 1), run.error_detail
    kind = KINDS[cell.kind]
    found = kind.sorted(begun.rows(cell.name))
    wanted = kind.wanted(folders=cell.source != "http")
    assert found == wanted
    assert [types(row) for row in found] == [types(row) for row in wanted]
    with begun.stack.client() as client:
        (version,) = client.versions(cell.name)
        assert (version.engine, version.rows) == (cell.engine, len(found))
        assert client.rows(cell.name, limit=1).num_rows_total == len(found)


def types(row: Row) -> dict[str, type]:
    """Of each value: to Python `True == 1 == 1.0`."""
    return {name: type(value) for name, value in row.items()}


def page(web: BaseHTTPRequestHandler) -> None:
    """For those who have the token."""
    if web.headers["Authorization"] == f"Bearer {TOKEN}":
        File(b"a,b\n1,2\n")(web)
    else:
        answer(web, 401)


def echo(web: BaseHTTPRequestHandler) -> None:
    """A server that says what it was told."""
    told = web.headers["Authorization"]
    answer(web, 403, told.encode(), X_Told=told, WWW_Authenticate=told)


def away(web: BaseHTTPRequestHandler) -> None:
    """A server that sends what it was told elsewhere."""
    redirect(f"http://169.254.169.254/?{web.headers['Authorization'].split()[1]}")(web)


def asked(places: Places, engine: str) -> dict[str, Manifest]:
    """The manifests of `ENDS`."""
    lake, wrong = places.bucket("lake"), places.bucket("wrong")
    token, here = {"secretRef": {"name": "page"}}, f"s3://{BUCKET}"
    found: Mapping[str, tuple[str, Mapping[str, object]]] = {
        "good": (f"{here}/csv/", lake),
        "no-bucket": ("s3://nosuchbucket/csv/", lake),
        "bad-row": (f"{here}/bad/", lake),
        "half-bad": (f"{here}/bad/", lake),
        "wrong-key": (f"{here}/csv/", wrong),
        "page": (places.web.at("/page.csv", page), token),
        "page-read": (places.web.at("/page.csv", page), token | {"copy": "never"}),
        "page-echo": (places.web.at("/echo.csv", echo), token),
        "page-away": (places.web.at("/away.csv", away), token),
    }
    made = {
        name: manifest(f"{name}-{engine}", engine, type="csv", url=url, **more)
        for name, (url, more) in found.items()
    }
    made["half-bad"]["spec"] |= {"onError": "quarantine", "maxBadRatio": 1}
    return made


@pytest.fixture(scope="module")
def told(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """What was told at the time: by the command line, and by the stream of events."""
    places.s3.put("bad/x.csv", b"a,b\n1,2\n3,4,5\n")
    folder, stack = tmp_path_factory.mktemp("asked"), places.stack
    for name, value in zip(("key-id", "key"), WRONG, strict=True):
        (folder / name).write_text(value)
    found: Texts = {}

    def cli(*words: str) -> None:
        done = stack.cli(*words, cwd=folder, check=False)
        found[" ".join(words)] = (done.stdout + done.stderr).encode()

    cli("secret", "set", "wrong", "access_key_id=@key-id", "secret_access_key=@key")
    cli("secret", "list")
    with overheard(stack) as heard, stack.client() as client:
        for engine in ENGINES:
            for name, body in asked(places, engine).items():
                (folder / f"{name}.yaml").write_text(json.dumps(body))
                client.apply(body)
        for engine in ENGINES:
            runs = {name: places.ended(f"{name}-{engine}") for name in ENDS}
            assert {name: run.error_code for name, run in runs.items()} == ENDS
    cli("plan", "-f", "good.yaml", "-f", "page.yaml")
    cli("plan", "-f", "wrong-key.yaml", "-o", "json")
    cli("plan", "-f", "page-echo.yaml", "-o", "json")
    cli("apply", "--wait", "-f", "no-bucket.yaml")
    cli("describe", "good-ray")
    cli("logs", runs["wrong-key"].id)
    cli("quarantine", "list", "half-bad-ray")
    return found | {"events": b"".join(heard)}


def test_no_secret_is_in_anything_that_is_written_or_said(places: Places, told: Texts) -> None:
    names = [f"{name}-{engine}" for name in ENDS for engine in ENGINES]
    spoken = told | answered(places.stack, names)
    assert hits(SECRETS, spoken) == []
    assert len(hits(["half-bad"], spoken)) > 10  # it finds what is there
    kept = written(places.stack.home) | written(places.outside)
    assert hits(SECRETS, kept) == []
    for part in ("said.log", "catalog.db", "nats/", "warehouse/", "logs/", "session_"):
        assert any(part in path for path in kept), part


def test_a_secret_is_found_in_whatever_form_it_stands() -> None:
    for secret in SECRETS:
        for before in ("", "a", "ab", "user:"):
            text = base64.b64encode(f"{before}{secret}:more".encode())
            assert hits([secret], {"x": text}), (secret, before)
        assert not hits([secret], {"x": secret[1:].encode()})


def test_what_is_written_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text(f"x {TOKEN} y")
    assert len(hits([TOKEN], written(tmp_path))) == 1
