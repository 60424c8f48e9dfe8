"""Files from the web and uploads become rows, on a whole stack, by the command line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives import tar_of, zip_of
from tests.e2e.stack import EmbeddedStack, embedded_stack
from tests.webs import File, Web, web_server

ENV = {"ONEBLOCK_PRIVATE_NETWORKS": "loopback", "ONEBLOCK_HTTP_PORTS": "*"}
ROWS = b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(200_000))
HALF = {
    "one.csv": ROWS[: ROWS.index(b"\n100000,") + 1],
    "in/two.csv": b"id,name\n" + ROWS[ROWS.index(b"\n100000,") + 1 :],
}

pytestmark = pytest.mark.xdist_group("web")


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with web_server() as serving:
        yield serving


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    with embedded_stack(tmp_path_factory.mktemp("web") / "home", env=ENV) as running:
        yield running


def rows_of(stack: EmbeddedStack, name: str, url: str, **source: object) -> list[dict[str, object]]:
    """Applies, waits, and reads the first and last rows."""
    manifest = {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": name},
        "spec": {"source": {"type": "csv", "url": url, **source}},
    }
    with stack.client() as client:
        run = client.apply(manifest, wait=True, timeout=60)
        assert run.good, run.error_detail
        total = client.rows(name, limit=1).num_rows_total
        last = client.rows(name, offset=total - 1, limit=1)
        found = [dict(row) for page in (client.rows(name, limit=2), last) for row in page.values()]
        assert total == 200_000
        return found


EXPECTED = [
    {"id": 0, "name": "name 0"},
    {"id": 1, "name": "name 1"},
    {"id": 199_999, "name": "name 199999"},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", ROWS),
        ("rows.csv.gz", gzip.compress(ROWS, 1)),
        ("rows.zip", zip_of(HALF)),
        ("rows.tar", tar_of(HALF)),
        ("rows.tar.gz", gzip.compress(tar_of(HALF), 1)),
    ],
)
@pytest.mark.parametrize("copy", ["auto", "never"])
def test_a_file_from_the_web_becomes_rows(
    stack: EmbeddedStack, web: Web, name: str, content: bytes, copy: str
) -> None:
    url = web.at(f"/{copy}/{name}", File(content))
    dataset = f"web-{name.replace('.', '-')}-{copy}"
    assert (
        sorted(rows_of(stack, dataset, url, copy=copy), key=lambda row: str(row["name"]))
        == EXPECTED
    )


def test_a_cut_download_and_an_unchanged_file_are_nobodys_trouble(
    stack: EmbeddedStack, web: Web
) -> None:
    url = web.at("/cut.csv", File(ROWS, cuts=[2_000_000]))
    assert rows_of(stack, "cut", url) == EXPECTED
    assert web.asked("/cut.csv")[1][1]["Range"] == "bytes=2000000-"
    with stack.client() as client:
        again = client.start("cut", wait=True)
    assert again.state == "skipped"
    assert web.asked("/cut.csv")[-1][1]["If-None-Match"] == '"one"'


def test_a_url_that_may_not_be_asked_is_refused_at_once(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    manifest = {
        "apiVersion": "core.oneblock.ai/v1alpha1",
        "kind": "DataSet",
        "metadata": {"name": "inside"},
        "spec": {"source": {"type": "csv", "url": "http://169.254.169.254/latest/meta-data/"}},
    }
    (tmp_path / "inside.json").write_text(json.dumps(manifest))
    done = stack.cli("apply", "-f", str(tmp_path / "inside.json"), check=False)
    assert done.returncode == 1
    assert "ONEBLOCK_PRIVATE_NETWORKS" in done.stderr


def test_a_folder_and_a_file_are_uploaded_and_read(stack: EmbeddedStack, tmp_path: Path) -> None:
    for name, content in HALF.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "whole.csv").write_bytes(ROWS)
    assert len(ROWS) > 1 << 20  # so that it goes in pieces
    done = stack.cli("upload", "-o", "json", str(tmp_path / "data"), str(tmp_path / "whole.csv"))
    folder, whole = json.loads(done.stdout)["items"]
    assert folder["url"].endswith("/data/")
    assert folder["files"] == 2
    found = rows_of(stack, "folder", folder["url"])
    assert found[0] == {"id": 100_000, "name": "name 100000"}  # of in/two.csv: names in order
    assert rows_of(stack, "whole", whole["url"]) == EXPECTED
