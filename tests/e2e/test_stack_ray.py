"""The stack with Ray: useful before Ray is there, whole afterwards, gone when killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from oneblock import AsyncClient

from tests.e2e.stack import EmbeddedStack, embedded_stack

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.slow, pytest.mark.ray]

MANIFEST = """\
apiVersion: core.oneblock.ai/v1alpha1
kind: DataSet
metadata: {{name: {name}}}
spec:
  source: {{type: jsonl, url: ./things.jsonl, key: [id]}}
  engine: {engine}
  transform: [{{filter: "id % 2 = 0"}}]
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    home = tmp_path_factory.mktemp("ray") / "home"
    with embedded_stack(home, ray=True, until="accepting") as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = (json.dumps({"id": i, "word": f"w{i}"}) + "\n" for i in range(1000))
    (tmp_path / "things.jsonl").write_text("".join(lines))
    return tmp_path


def manifest(folder: Path, name: str, engine: str) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(MANIFEST.format(name=name, engine=engine))
    return path


async def test_small_things_do_not_wait_for_ray(stack: EmbeddedStack, folder: Path) -> None:
    path = manifest(folder, "early", "auto")
    async with AsyncClient(stack.home) as client:
        run = await client.apply(path, wait=True, timeout=60)
        (version,) = await client.versions("early")
    assert (run.state, version.engine, version.rows) == ("succeeded", "local", 500)


async def test_ray_gives_the_same_rows_as_the_local_lane(
    stack: EmbeddedStack, folder: Path
) -> None:
    async with AsyncClient(stack.home) as client:
        for engine in ("local", "ray"):
            await client.apply(manifest(folder, f"on-{engine}", engine), wait=True, timeout=180)
        (made,) = await client.versions("on-ray")
        pages = [await client.rows(f"on-{engine}", limit=1000) for engine in ("local", "ray")]
    assert made.engine == "ray"
    first, second = ({(r.row_key, r.row["id"], r.row["word"]) for r in p.rows} for p in pages)
    assert first == second
    assert {row[1] for row in first} == set(range(0, 1000, 2))


def test_everything_is_ready_in_the_end(stack: EmbeddedStack) -> None:
    stack.wait_for(lambda: stack.state["state"] == "ready", "ready")
    assert stack.endpoint("ray").startswith("ray://127.0.0.1:")
    assert set(stack.state["services"]) == {
        "nats", "ingest", "transform", "sink", "catalog", "ray",
    }  # fmt: skip


def test_a_supervisor_that_is_killed_takes_ray_along(tmp_path: Path) -> None:
    with embedded_stack(tmp_path / "home", ray=True) as stack:
        assert stack._up is not None
        stack._up.send_signal(signal.SIGKILL)
        stack._up.wait()
        stack._up = None
        assert stack.leftovers() == []
