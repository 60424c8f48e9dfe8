"""The command line against a stand-in of the services: what it sends, prints and exits with."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from oneblock import ApiError, AsyncClient, Client, InvalidFile, NotRunning, RunFailed, manifests
from oneblock.cli.output import shown, size

from libs.sdk import generate

Answer = tuple[int, dict[str, str], Any]
MANIFEST = """\
apiVersion: core.oneblock.ai/v1alpha1
kind: DataSet
metadata: {name: things}
spec:
  source: {type: csv, url: %s}
"""


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Standin:
    """Both services in one: answers what it is told, remembers what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, Callable[[Asked], Answer]] = field(default_factory=dict)

    def on(self, call: str, *answers: Answer) -> None:
        """`GET /path` → these answers in turn, the last one for ever."""
        left = list(answers)
        self.answers[call] = lambda _asked: left.pop(0) if len(left) > 1 else left[0]

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        found = self.answers.get(f"{asked.method} {asked.path.split('?')[0]}")
        return found(asked) if found else (404, {}, {"title": "Not Found", "detail": asked.path})


@contextmanager
def listening(standin: Standin) -> Iterator[Standin]:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {k.lower(): v for k, v in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self.rfile.read(length))
            status, extra, value = standin.answer(asked)
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in {**extra, "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    standin.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield standin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def standin() -> Iterator[Standin]:
    with listening(Standin()) as found:
        yield found


@pytest.fixture
def client(standin: Standin) -> Iterator[Client]:
    with Client(catalog_url=standin.url, ingest_url=standin.url, token="t") as found:
        yield found


def oneblock(standin: Standin, *arguments: str, cwd: Path | None = None) -> Any:
    env = {"ONEBLOCK_CATALOG_URL": standin.url, "ONEBLOCK_INGEST_URL": standin.url, "PATH": ""}
    command = (sys.executable, "-P", "-m", "oneblock", *arguments)
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=cwd, timeout=60)


RUN = {"id": "run-1", "dataset": "default/things", "state": "succeeded", "version": 1}
ACCEPTED: Answer = (202, {}, {"run": {**RUN, "state": "accepted"}, "dataset": "default/things"})


def test_the_sync_client_is_generated_from_the_async_one() -> None:
    assert generate.main(["--check"]) == 0


def test_a_request_is_sent_again_with_the_same_key_until_it_is_accepted(
    standin: Standin, client: Client, tmp_path: Path
) -> None:
    busy: Answer = (503, {"Retry-After": "0"}, {"title": "Service Unavailable"})
    standin.on("POST /v1/datasets", busy, busy, ACCEPTED)
    (tmp_path / "m.yaml").write_text(MANIFEST % "file:///data/things.csv")
    run = client.apply(tmp_path / "m.yaml")
    assert run.id == "run-1"
    keys = {asked.headers["idempotency-key"] for asked in standin.asked}
    assert len(standin.asked) == 3
    assert len(keys) == 1


async def test_the_async_client_does_the_same(standin: Standin, tmp_path: Path) -> None:
    standin.on("POST /v1/datasets", ACCEPTED)
    standin.on("GET /v1/runs/run-1", (404, {}, {"title": "Not Found"}), (200, {}, RUN))
    async with AsyncClient(catalog_url=standin.url, ingest_url=standin.url) as client:
        run = await client.apply(json.loads(json.dumps({"kind": "DataSet"})), wait=True)
    assert (run.state, run.version) == ("succeeded", 1)


def test_the_token_is_sent_to_the_services(standin: Standin, client: Client) -> None:
    standin.on("GET /v1/datasets", (200, {}, {"items": []}))
    client.datasets()
    assert standin.asked[0].headers["authorization"] == "Bearer t"


def test_a_manifest_goes_out_as_it_was_written(
    standin: Standin, client: Client, tmp_path: Path
) -> None:
    standin.on("POST /v1/datasets", ACCEPTED)
    text = "# a comment\n" + MANIFEST % "file:///data/things.csv"
    (tmp_path / "m.yaml").write_text(text)
    client.apply(tmp_path / "m.yaml")
    assert standin.asked[0].body.decode() == text
    assert standin.asked[0].headers["content-type"] == "application/yaml"


def test_relative_files_are_uploaded_and_the_manifest_names_the_uploads(
    standin: Standin, client: Client, tmp_path: Path
) -> None:
    standin.on("POST /v1/datasets", ACCEPTED)
    for name in ("a", "b"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.csv").write_text(f"id\n{name}\n")
        uploaded = {"url": f"upload://{name}", "size": 5, "sha256": "0"}
        standin.on(f"PUT /v1/uploads/{name}.csv", (201, {}, uploaded))
    (tmp_path / "m.yaml").write_text(MANIFEST % "data/*.csv")
    client.apply(tmp_path / "m.yaml")
    puts = [asked for asked in standin.asked if asked.method == "PUT"]
    assert [put.body for put in puts] == [b"id\na\n", b"id\nb\n"]
    sent = json.loads(standin.asked[-1].body)
    assert sent["spec"]["source"]["url"] == ["upload://a", "upload://b"]


def test_a_plan_names_relative_files_where_they_lie_and_uploads_nothing(
    standin: Standin, client: Client, tmp_path: Path
) -> None:
    standin.on("POST /v1/datasets/plan", (200, {}, {"files": 1}))
    (tmp_path / "a b.csv").write_text("id\n1\n")
    (tmp_path / "m.yaml").write_text(MANIFEST % "a b.csv")
    assert client.plan(tmp_path / "m.yaml") == {"files": 1}
    (asked,) = standin.asked
    assert json.loads(asked.body)["spec"]["source"]["url"] == (tmp_path / "a b.csv").as_uri()


def test_a_relative_folder_to_deliver_to_lies_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(
        MANIFEST % "file:///x.csv" + "  destination: {type: local, format: csv, url: ./out}\n"
    )
    body = manifests.load(tmp_path / "m.yaml").body()
    assert isinstance(body, dict)
    assert body["spec"]["destination"]["url"] == (tmp_path / "out").as_uri()


def test_a_relative_file_that_is_missing_is_named_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(MANIFEST % "./gone.csv")
    with pytest.raises(InvalidFile, match=r"spec\.source\.url: \./gone\.csv: no such file below"):
        manifests.relative_sources(manifests.load(tmp_path / "m.yaml"))


def test_a_manifest_that_is_no_yaml_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("a: 1\nb: [\n")
    with pytest.raises(InvalidFile, match=r"m\.yaml:3:1: not YAML"):
        manifests.load(tmp_path / "m.yaml")


def test_nobody_answering_says_how_to_start_the_stack() -> None:
    with listening(Standin()) as gone:
        url = gone.url
    with Client(catalog_url=url, ingest_url=url) as client, pytest.raises(NotRunning) as caught:
        client.datasets()
    assert "oneblock up" in caught.value.hint


def test_no_stack_in_the_folder_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no stack runs in"):
        Client(tmp_path)


def test_the_catalog_is_asked_where_ingest_is(standin: Standin) -> None:
    standin.on("GET /v1/config", (200, {}, {"ingest_url": standin.url}))
    standin.on("DELETE /v1/datasets/default/things", (202, {}, {"deleted": True}))
    with Client(catalog_url=standin.url) as client:
        assert client.delete("things")["deleted"] is True


def test_a_run_that_was_coalesced_is_waited_for_in_the_run_that_took_its_work(
    standin: Standin, client: Client
) -> None:
    coalesced = {**RUN, "state": "coalesced", "into": "run-2"}
    standin.on("GET /v1/runs/run-1", (200, {}, coalesced))
    standin.on("GET /v1/runs/run-2", (200, {}, {**RUN, "id": "run-2"}))
    assert client.wait("run-1").id == "run-2"


def test_a_failed_run_that_is_waited_for_raises_with_its_reason(
    standin: Standin, client: Client
) -> None:
    error = {"code": "parse_error", "detail": "line 3: a stray quote", "path": "things.csv"}
    standin.on("GET /v1/runs/run-1", (200, {}, {**RUN, "state": "failed", "error": error}))
    with pytest.raises(RunFailed, match=r"things\.csv: line 3: a stray quote") as caught:
        client.wait("run-1")
    assert caught.value.code == "parse_error"


def test_lists_are_read_page_by_page(standin: Standin, client: Client) -> None:
    pages = [{"items": [RUN], "next_cursor": "n"}, {"items": [{**RUN, "id": "run-2"}]}]
    standin.on("GET /v1/runs", *((200, {}, page) for page in pages))
    assert [run.id for run in client.runs()] == ["run-1", "run-2"]
    assert "cursor=n" in standin.asked[1].path


def test_problems_are_printed_one_a_line_with_paths_and_exit_code_1(
    standin: Standin, tmp_path: Path
) -> None:
    problem = {
        "type": "urn:oneblock:problem:invalid_manifest",
        "title": "Unprocessable Content",
        "detail": "the manifest has 2 problems",
        "errors": [
            {"path": "spec.source.type", "detail": "unknown 'xls'", "code": "unknown"},
            {"path": "metadata.name", "detail": "must be lower case", "code": "bad_name"},
        ],
    }
    standin.on("POST /v1/datasets", (422, {}, problem))
    (tmp_path / "m.yaml").write_text(MANIFEST % "file:///x.csv")
    done = oneblock(standin, "apply", "-f", "m.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "  spec.source.type: unknown 'xls'\n" in done.stderr
    assert "  metadata.name: must be lower case\n" in done.stderr
    assert done.stdout == ""


def test_wrong_usage_exits_with_2(standin: Standin) -> None:
    for wrong in (["rows"], ["rows", "x", "--limit", "none"], ["fly"], ["get", "versions"]):
        assert oneblock(standin, *wrong).returncode == 2, wrong


PAGE = {
    "features": [{"feature_idx": 0, "name": "id"}, {"feature_idx": 1, "name": "note"}],
    "rows": [
        {"row_idx": 0, "row_key": "aa", "row": {"id": 1, "note": 'say "hi",\nthen'}},
        {"row_idx": 1, "row_key": "bb", "row": {"id": 2, "note": None}},
    ],
    "num_rows_total": 2,
}


def test_rows_as_json_csv_and_table(standin: Standin) -> None:
    standin.on("GET /v1/datasets/default/things/rows", (200, {}, PAGE))
    as_json = oneblock(standin, "rows", "things", "-o", "json", "--columns", "id,note")
    assert json.loads(as_json.stdout) == PAGE
    assert "columns=id&columns=note" in standin.asked[0].path
    as_csv = oneblock(standin, "rows", "things", "-o", "csv")
    expected = [["id", "note"], ["1", 'say "hi",\nthen'], ["2", ""]]
    assert list(csv.reader(io.StringIO(as_csv.stdout))) == expected
    as_table = oneblock(standin, "rows", "things")
    assert 'say "hi",\\nthen' in as_table.stdout
    assert "rows 1 to 2 of 2 in default/things" in as_table.stderr


def test_apply_and_wait_prints_plain_lines_when_piped(standin: Standin, tmp_path: Path) -> None:
    stages = [
        {"name": "ingest", "state": "succeeded", "files": 1, "bytes": 47_800},
        {"name": "transform", "state": "succeeded", "rows": 1461},
        {"name": "sink", "state": "succeeded"},
    ]
    standin.on("POST /v1/datasets", ACCEPTED)
    standin.on("GET /v1/runs/run-1", (200, {}, {**RUN, "stages": stages}))
    (tmp_path / "m.yaml").write_text(MANIFEST % "file:///x.csv")
    done = oneblock(standin, "apply", "-f", "m.yaml", "--wait", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ingest     succeeded  1 file, 47.8 kB" in done.stderr
    assert "default/things v1: 1,461 rows" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_status_without_a_stack_is_down(tmp_path: Path, standin: Standin) -> None:
    done = oneblock(standin, "status", "-o", "json", "--home", str(tmp_path))
    found = json.loads(done.stdout)
    assert (found["state"], found["endpoints"], found["services"]) == ("down", {}, {})


def test_cells_cannot_command_the_terminal() -> None:
    assert shown("\x1b[2Jgone\x07") == "\\x1b[2Jgone\\x07"
    assert shown({"a": [1, None]}) == '{"a": [1, null]}'


def test_sizes_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 47_836, 10**12)] == [
        "0 B", "999 B", "1.0 kB", "47.8 kB", "1.0 TB",
    ]  # fmt: skip


def test_an_api_error_keeps_code_and_status(standin: Standin, client: Client) -> None:
    problem = {"type": "urn:oneblock:problem:dataset_not_found", "detail": "no dataset 'x'"}
    standin.on("GET /v1/datasets/default/x", (404, {}, problem))
    with pytest.raises(ApiError, match="no dataset 'x'") as caught:
        client.dataset("x")
    assert (caught.value.status, caught.value.code) == (404, "dataset_not_found")
