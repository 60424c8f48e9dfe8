"""The catalog as a process: facts in over NATS, answers out over HTTP, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from libs.common.bus.admin import migrate
from libs.common.events import DatasetDeleted, ErrorInfo, Fact, RunChanged
from libs.common.web.tokens import add_entry, new_token
from tests.catalogs import CatalogProcess, catalog_process, ended, manifest_of, story, tell, want
from tests.postgres import postgres
from tests.servers import NatsServer, nats_server

CARS = "default/cars"
TABLE = pa.table({"id": list(range(250)), "name": [f"n{i}" for i in range(250)]})


@dataclass(frozen=True)
class Stack:
    nats: NatsServer
    catalog: CatalogProcess
    reads_all: str
    reads_team: str

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        with self.catalog.client(token or self.reads_all) as client:
            return client.get(path)

    def tell(self, *facts: Fact) -> None:
        tell(self.nats, *facts)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    if request.param == "sqlite":
        yield from _stack(tmp_path_factory.mktemp("catalog"))
        return
    with postgres() as server:
        yield from _stack(
            tmp_path_factory.mktemp("catalog"), ONEBLOCK_CATALOG_DB=server.fresh_url()
        )


def _stack(folder: Path, **environment: str) -> Iterator[Stack]:
    tokens = folder / "tokens.json"
    all_token, entry = new_token(name="all")
    add_entry(tokens, entry)
    team_token, entry = new_token(name="team", namespaces=["team"])
    add_entry(tokens, entry)
    environment["ONEBLOCK_TOKENS_FILE"] = str(tokens)
    environment["ONEBLOCK_INGEST_URL"] = "http://127.0.0.1:8081"
    with nats_server(folder) as nats:
        asyncio.run(migrate(nats.url))
        with catalog_process(folder / "home", nats, **environment) as catalog:
            stack = Stack(nats, catalog, all_token, team_token)
            _fill(stack)
            yield stack


def _fill(stack: Stack) -> None:
    """Two versions of default/cars, one of team/secret, and a failed run."""
    generation = want(stack.nats, manifest_of(CARS))
    warehouse = stack.catalog.warehouse
    stack.tell(*story(warehouse, CARS, "run-1", TABLE, generation))
    stack.tell(*story(warehouse, CARS, "run-2", TABLE.slice(0, 10), generation))
    stack.tell(*story(warehouse, "team/secret", "run-3", TABLE))
    error = ErrorInfo(code="parse_error", detail="a.csv line 3: 4 fields instead of 3")
    stack.tell(
        RunChanged(run="run-4", dataset="default/broken", generation=1, state="accepted"),
        RunChanged(
            run="run-4", dataset="default/broken", state="failed", stage="transform", error=error
        ),
    )
    log = warehouse.log(warehouse.run_dir(CARS, "run-1"))
    for n in range(5):
        log.append("transform", 1, "split_done", split=n, note="a\nb\x1b[31m")
    with stack.catalog.client(stack.reads_all) as client:
        for run in ("run-1", "run-2", "run-3", "run-4"):
            ended(client, run)


def test_a_dataset_shows_its_manifest_version_columns_and_deliveries(stack: Stack) -> None:
    found = stack.get(f"/v1/datasets/{CARS}").json()
    assert (found["dataset"], found["state"], found["version"]) == (CARS, "succeeded", 2)
    assert (found["rows"], found["generation"]) == (10, 1)
    assert found["manifest"]["metadata"]["name"] == "cars"
    assert found["columns"] == [{"name": "id", "type": "int64"}, {"name": "name", "type": "string"}]
    assert [d["version"] for d in found["deliveries"]] == [2]
    assert found["latest_run"]["id"] == "run-2"


def test_lists_are_newest_first_and_go_on_where_a_page_ended(stack: Stack) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        page = stack.get(f"/v1/runs?limit=1{cursor}").json()
        seen += [run["id"] for run in page["items"]]
        if not page["next_cursor"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen[-4:] == ["run-4", "run-3", "run-2", "run-1"]


def test_lists_are_filtered(stack: Stack) -> None:
    def ids(query: str) -> list[str]:
        return [run["id"] for run in stack.get(f"/v1/runs?{query}").json()["items"]]

    assert ids(f"dataset={CARS}") == ["run-2", "run-1"]
    assert ids("state=failed") == ["run-4"]
    assert ids("dataset=default/none") == []
    names = [d["dataset"] for d in stack.get("/v1/datasets?q=CAR").json()["items"]]
    assert names == [CARS]
    names = [d["dataset"] for d in stack.get("/v1/datasets?namespace=team").json()["items"]]
    assert names == ["team/secret"]


def test_versions_are_listed_with_their_deliveries(stack: Stack) -> None:
    page = stack.get(f"/v1/datasets/{CARS}/versions?limit=1").json()
    assert [v["name"] for v in page["items"]] == ["v2"]
    page = stack.get(f"/v1/datasets/{CARS}/versions?cursor={page['next_cursor']}").json()
    (first,) = page["items"]
    assert (first["version"], first["rows"], first["run"]) == (1, 250, "run-1")
    assert first["deliveries"][0]["destination"] == "file:///out"


def test_a_run_shows_its_stages_and_its_error(stack: Stack) -> None:
    good = stack.get("/v1/runs/run-1").json()
    assert [s["state"] for s in good["stages"]] == ["succeeded"] * 3
    assert good["stages"][1]["rows"] == 250
    bad = stack.get("/v1/runs/run-4").json()
    assert bad["state"] == "failed"
    assert bad["error"]["detail"] == "a.csv line 3: 4 fields instead of 3"
    assert [s["state"] for s in bad["stages"]] == ["not_run", "failed", "not_run"]


def test_rows_come_page_by_page_with_their_keys(stack: Stack) -> None:
    page = stack.get(f"/v1/datasets/{CARS}/rows?version=1&offset=240&limit=20&columns=id").json()
    assert [row["row"]["id"] for row in page["rows"]] == list(range(240, 250))
    assert page["rows"][0]["row_idx"] == 240
    assert page["rows"][0]["row_key"] == (240).to_bytes(16, "big").hex()
    assert (page["num_rows_total"], page["version"]) == (250, 1)
    assert [f["name"] for f in page["features"]] == ["id"]
    newest = stack.get(f"/v1/datasets/{CARS}/rows?length=3").json()
    assert (newest["num_rows_total"], len(newest["rows"])) == (10, 3)


def test_the_dataset_viewers_parameters_give_the_same_rows(stack: Stack) -> None:
    viewer = stack.get(f"/rows?dataset={CARS}&config=default&split=train&offset=2&length=2").json()
    ours = stack.get(f"/v1/datasets/{CARS}/rows?offset=2&limit=2").json()
    assert viewer == ours


def test_an_offset_beyond_the_end_gives_no_rows(stack: Stack) -> None:
    page = stack.get(f"/v1/datasets/{CARS}/rows?offset=9223372036854770000").json()
    assert page["rows"] == []
    assert page["num_rows_total"] == 10


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/v1/datasets/{CARS}/rows?offset=-1", 422, "invalid_value"),
        (f"/v1/datasets/{CARS}/rows?offset=9223372036854775808", 422, "invalid_value"),
        (f"/v1/datasets/{CARS}/rows?limit=1000000000", 422, "invalid_value"),
        (f"/v1/datasets/{CARS}/rows?columns=nope", 422, "unknown_column"),
        (f"/v1/datasets/{CARS}/rows?lenght=3", 422, "unknown_field"),
        (f"/v1/datasets/{CARS}/rows?limit=1&length=2", 422, "invalid_value"),
        (f"/v1/datasets/{CARS}/rows?version=99", 404, "version_not_found"),
        ("/v1/datasets/default/none", 404, "dataset_not_found"),
        ("/v1/datasets/default/none/rows", 404, "dataset_not_found"),
        ("/v1/datasets/default/none/versions", 404, "dataset_not_found"),
        ("/v1/datasets/default/broken/rows", 404, "version_not_found"),
        ("/v1/datasets/default/..%2f..%2fetc", 404, "not_found"),
        ("/v1/datasets/default/a%00b", 422, "invalid_value"),
        ("/v1/datasets/Default/CARS", 422, "invalid_request"),
        ("/v1/datasets?q=a%00b", 422, "invalid_value"),
        ("/v1/datasets?q=%ff", 200, ""),
        ("/v1/datasets?cursor=%ff", 422, "invalid_cursor"),
        ("/v1/datasets?cursor=bnVsbA", 422, "invalid_cursor"),
        ("/v1/runs?limit=0", 422, "invalid_value"),
        ("/v1/runs?state=happy", 422, "invalid_value"),
        ("/v1/runs?dataset=x", 422, "invalid_value"),
        ("/v1/runs/run-0'; DROP TABLE runs", 422, "invalid_value"),
        ("/v1/runs/run-none", 404, "run_not_found"),
        ("/v1/runs/run-none/logs", 404, "run_not_found"),
        ("/v1/runs/run-1/logs?cursor=eyJhIjoxLjV9", 422, "invalid_cursor"),
        ("/v1/nothing", 404, "not_found"),
    ],
)  # fmt: skip
def test_bad_questions_get_problem_details(stack: Stack, path: str, status: int, code: str) -> None:
    answer = stack.get(path)
    assert answer.status_code == status, answer.text
    if code:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code, answer.text


def test_other_namespaces_are_as_if_they_were_not_there(stack: Stack) -> None:
    for path in (
        f"/v1/datasets/{CARS}",
        f"/v1/datasets/{CARS}/versions",
        f"/v1/datasets/{CARS}/rows",
        f"/rows?dataset={CARS}",
        "/v1/runs/run-1",
        "/v1/runs/run-1/logs",
        "/v1/runs/run-1/logs?follow=true",
    ):
        hidden = stack.get(path, stack.reads_team)
        assert hidden.status_code == 404, path
        absent = path.replace("cars", "none").replace("run-1", "run-9")
        assert stack.get(absent, stack.reads_team).json()["code"] == hidden.json()["code"]
    runs = stack.get("/v1/runs", stack.reads_team).json()["items"]
    assert [run["id"] for run in runs] == ["run-3"]
    datasets = stack.get("/v1/datasets?namespace=default", stack.reads_team).json()["items"]
    assert datasets == []


def test_without_a_token_there_is_no_answer(stack: Stack) -> None:
    with stack.catalog.client() as client:
        for path in (
            "/v1/datasets",
            "/v1/runs",
            "/v1/events",
            "/v1/config",
            f"/rows?dataset={CARS}",
        ):
            assert client.get(path).status_code == 401
        assert client.get("/healthz").status_code == 200


def test_the_log_of_a_run_comes_as_json_lines_and_text(stack: Stack) -> None:
    page = stack.get("/v1/runs/run-1/logs?limit=3").json()
    assert [line["split"] for line in page["items"]] == [0, 1, 2]
    page = stack.get(f"/v1/runs/run-1/logs?cursor={page['next_cursor']}").json()
    assert [line["split"] for line in page["items"]] == [3, 4]
    assert page["next_cursor"] is None
    with stack.catalog.client(stack.reads_all) as client:
        lines = client.get("/v1/runs/run-1/logs?follow=true").text.splitlines()
        text = client.get("/v1/runs/run-1/logs", headers={"Accept": "text/plain"}).text
    assert len(lines) == 5
    assert len(text.splitlines()) == 5  # a line break in a value forges no line …
    assert "\x1b" not in text  # … and an escape sequence reaches no terminal


def test_a_run_without_a_log_has_an_empty_one(stack: Stack) -> None:
    assert stack.get("/v1/runs/run-4/logs").json() == {"items": [], "next_cursor": None}


def test_a_deleted_dataset_leaves_the_list_and_keeps_its_versions(stack: Stack) -> None:
    name = "default/passing"
    stack.tell(*story(stack.catalog.warehouse, name, "run-7", TABLE))
    stack.tell(DatasetDeleted(dataset=name, generation=2))
    with stack.catalog.client(stack.reads_all) as client:
        ended(client, "run-7")
        for _ in range(500):
            found = client.get(f"/v1/datasets/{name}").json()
            if found["state"] == "deleted":
                break
    assert found["state"] == "deleted"
    listed = [d["dataset"] for d in stack.get("/v1/datasets").json()["items"]]
    assert name not in listed
    assert stack.get(f"/v1/datasets/{name}/rows").status_code == 200


def test_config_says_where_ingest_is(stack: Stack) -> None:
    found = stack.get("/v1/config").json()
    assert found["ingest_url"] == "http://127.0.0.1:8081"
    assert found["limits"]["rows_per_page"] == 1000


def test_the_root_shows_a_page_for_people(stack: Stack) -> None:
    answer = stack.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
