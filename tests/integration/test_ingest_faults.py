"""ingest when things break: killed at every step, NATS away, runs that nobody works on."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import nats as driver
import pytest

from libs.common.bus import Bus
from libs.common.events import FACTS, Fact, IngestRequested, RunChanged, SourceResolved
from libs.common.ids import run_id
from libs.common.manifest import parse
from tests.buses import a_bus, eventually, jetstream, started, stored
from tests.ingests import Ingest, ingest_on, manifest

QUICK = {"ONEBLOCK_SWEEP_SECONDS": "0.5", "ONEBLOCK_RESUME_AFTER_SECONDS": "1"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Ingest]:
    with ingest_on(tmp_path / "home", QUICK) as prepared:
        prepared.put(a="x\n1\n")
        yield prepared


def cars(service: Ingest, **spec: object) -> dict[str, object]:
    return manifest("cars", f"file://{service.data}/a.csv", **spec)


async def told(service: Ingest) -> list[Fact]:
    async with jetstream(service.nats) as js:
        messages = [json.loads(body) for _, body in await stored(js, "OB_EVENTS")]
    return [FACTS[m["type"]].model_validate(m["data"]) for m in messages]


async def first(service: Ingest, kind: type[Fact], run: str, **fields: object) -> Fact:
    """The fact of this kind about the run; there must never be two different ones."""

    async def look() -> Fact | None:
        found = [f for f in await told(service) if isinstance(f, kind)]
        mine = [f for f in found if getattr(f, "run", None) == run]
        right = [f for f in mine if all(getattr(f, k) == v for k, v in fields.items())]
        assert len(set(right)) <= 1
        return right[0] if right else None

    return await eventually(look, within=30)


async def with_bus(
    service: Ingest, work: Callable[[Bus], Awaitable[None]], lease_ttl: float = 30.0
) -> None:
    async with started(a_bus(service.nats, lease_ttl=lease_ttl)) as bus:
        await work(bus)


async def publish(service: Ingest, fact: Fact, id: str | None = None) -> None:
    await with_bus(service, lambda bus: bus.publish(fact, id=id))


@pytest.mark.parametrize(
    "point",
    ["after_spec_put", "after_slot", "before_resolved", "after_resolved_before_ack"],
)
@pytest.mark.parametrize("at", [1, 2])
async def test_killed_at_any_step_each_request_is_resolved_once(
    service: Ingest, point: str, at: int
) -> None:
    """Two datasets, so that the second pass of a step is another run's."""
    service.put(b="x\n1\n")
    service.start(CRASHPOINT=f"{point}:{at}")
    bodies = [cars(service), manifest("bikes", f"file://{service.data}/b.csv")]
    ids = [f"request-{i}" for i in range(2)]
    for body, id in zip(bodies, ids, strict=True):
        await publish(service, IngestRequested(manifest=body), id)
    assert service.wait_for_death() == -9
    service.start()
    for id in ids:
        await first(service, SourceResolved, run_id(id), generation=1)
        await first(service, RunChanged, run_id(id), state="accepted")
    run_dirs = list(service.warehouse.glob("default/*.runs/*"))
    assert len(run_dirs) == 2
    assert not [p for p in service.warehouse.rglob("*") if ".listing-" in p.name]


async def test_killed_before_publishing_the_same_key_is_accepted_afterwards(
    service: Ingest,
) -> None:
    service.start(CRASHPOINT="after_accept_before_publish:1")
    headers = {"Idempotency-Key": "once"}
    with service.client() as client, pytest.raises(httpx.TransportError):
        client.post("/v1/datasets", json=cars(service), headers=headers)
    assert service.wait_for_death() == -9
    service.start()
    with service.client() as client:
        answer = client.post("/v1/datasets", json=cars(service), headers=headers)
    assert answer.status_code == 202
    await first(service, SourceResolved, answer.json()["run"]["id"])


async def test_the_same_message_five_times_is_one_run(service: Ingest) -> None:
    service.start()
    body = json.dumps(
        {
            "specversion": "1.0",
            "id": "five",
            "source": "test",
            "type": IngestRequested.TYPE,
            "data": {"manifest": cars(service)},
        }
    ).encode()
    client = await driver.connect(service.nats.url)
    for _ in range(5):  # without Nats-Msg-Id, so that the server drops none
        await client.jetstream().publish(IngestRequested.TYPE, body)
    await client.close()
    await first(service, SourceResolved, run_id("five"))
    async with jetstream(service.nats) as js:

        async def all_done() -> bool:
            info = await js.consumer_info("OB_INGEST", "ingest-requests")
            return info.num_pending == 0 and info.num_ack_pending == 0

        await eventually(all_done)
    facts = await told(service)
    assert len([f for f in facts if isinstance(f, SourceResolved)]) == 1
    assert {f.run for f in facts if isinstance(f, RunChanged)} == {run_id("five")}


async def test_an_old_request_that_comes_again_does_not_set_the_spec_back(
    service: Ingest,
) -> None:
    service.start()
    old = IngestRequested(manifest=cars(service))
    await publish(service, old, "old")
    await first(service, SourceResolved, run_id("old"))
    await publish(service, IngestRequested(manifest=cars(service, engine="local")), "new")
    await first(service, RunChanged, run_id("new"))

    async def again(bus: Bus) -> None:
        await bus.broker.publish(  # as after a crash of the server: same id, not dropped
            json.dumps(
                {
                    "specversion": "1.0",
                    "id": "old",
                    "source": "test",
                    "type": IngestRequested.TYPE,
                    "data": old.model_dump(mode="json"),
                }
            ).encode(),
            IngestRequested.TYPE,
        )

        async def settled() -> bool:
            async with jetstream(service.nats) as js:
                info = await js.consumer_info("OB_INGEST", "ingest-requests")
                return info.num_pending == 0 and info.num_ack_pending == 0

        await eventually(settled)
        desired = await bus.specs.get("default/cars")
        assert desired is not None
        assert desired.generation == 2
        assert desired.manifest["spec"]["engine"] == "local"  # type: ignore[index]

    await with_bus(service, again)


@pytest.mark.parametrize(
    ("url", "code", "word"),
    [
        ("{data}/absent.csv", "source_not_found", "absent.csv"),
        ("{data}/empty/*.csv", "no_matching_files", "*.csv"),
        ("/etc/passwd", "path_outside_root", "/etc/passwd"),
    ],
)
async def test_a_source_that_fails_fails_its_run_and_no_other(
    service: Ingest, url: str, code: str, word: str
) -> None:
    (service.data / "empty").mkdir()
    service.start()
    bad = manifest("bad", f"file://{url.replace('{data}', str(service.data))}")
    await publish(service, IngestRequested(manifest=bad), "bad")
    await publish(service, IngestRequested(manifest=cars(service)), "good")
    failed = await first(service, RunChanged, run_id("bad"), state="failed")
    assert isinstance(failed, RunChanged)
    assert failed.error is not None
    assert (failed.error.code, failed.error.path) == (code, "spec.source.url")
    assert word in failed.error.detail
    await first(service, SourceResolved, run_id("good"))
    # the slot is free again: a repaired source is taken up
    service.put(absent="x\n1\n", empty__e="x\n1\n")
    fixed = manifest("bad", f"file://{service.data}/absent.csv")
    await publish(service, IngestRequested(manifest=fixed), "fixed")
    await first(service, SourceResolved, run_id("fixed"))


async def test_a_bad_manifest_is_a_dead_letter_and_the_next_is_processed(
    service: Ingest,
) -> None:
    service.start()
    await publish(service, IngestRequested(manifest={"kind": "DataSet"}), "broken")
    await publish(service, IngestRequested(manifest=cars(service)), "good")
    await first(service, SourceResolved, run_id("good"))

    async def letters() -> list[bytes]:
        async with jetstream(service.nats) as js:
            return [body for _, body in await stored(js, "OB_DEAD")]

    [letter] = await eventually(letters)
    assert b"invalid_manifest" in letter


async def test_the_end_of_a_run_starts_the_one_that_waits(service: Ingest) -> None:
    service.start()
    for id in ("one", "two", "three"):
        await publish(service, IngestRequested(manifest=cars(service)), id)
    await first(service, SourceResolved, run_id("one"))
    await first(service, RunChanged, run_id("three"), state="coalesced", into=run_id("two"))

    async def end(bus: Bus) -> None:
        ended = await bus.runs.finish(run_id("one"), "succeeded", version=1)
        await bus.publish(ended.changed())

    await with_bus(service, end)
    await first(service, SourceResolved, run_id("two"))


async def test_an_end_that_was_never_told_is_found(service: Ingest) -> None:
    """The process that ended the run died before it published, and nobody redelivers."""
    service.start()
    for id in ("one", "two"):
        await publish(service, IngestRequested(manifest=cars(service)), id)
    await first(service, SourceResolved, run_id("one"))
    await first(service, RunChanged, run_id("two"))

    async def end(bus: Bus) -> None:
        await bus.runs.finish(run_id("one"), "succeeded", version=1)

    await with_bus(service, end)
    await first(service, RunChanged, run_id("one"), state="succeeded")
    await first(service, SourceResolved, run_id("two"))


async def test_a_run_that_nobody_works_on_is_resumed(service: Ingest) -> None:
    """Accepted, and then its message was lost with the server's disk."""
    from libs.common import manifest as manifests
    from libs.common.bus import RunRecord

    form = manifests.canonical(parse(cars(service)))
    record = RunRecord(
        id="run-lost", dataset="default/cars", generation=1, manifest=form, stage="accept"
    )

    async def accept(bus: Bus) -> None:
        await bus.runs.accept(record)

    await with_bus(service, accept)
    service.start()
    await first(service, SourceResolved, "run-lost")


async def test_while_nats_is_away_uploads_go_on_and_requests_are_told_to_wait(
    service: Ingest,
) -> None:
    service.start()
    with service.client() as client:
        assert client.post("/v1/datasets", json=cars(service)).status_code == 202
        service.nats.kill()
        await eventually(lambda: client.get("/readyz").status_code == 503, within=10)
        began = time.monotonic()
        answer = client.post("/v1/datasets", json=cars(service))
        assert (answer.status_code, answer.json()["code"]) == (503, "bus_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - began < 1
        assert client.put("/v1/uploads/a.csv", content=b"x").status_code == 201
        began = time.monotonic()
        assert client.get("/healthz").json()["bus"] == "reconnecting"
        assert time.monotonic() - began < 1
        service.nats.start()
        await eventually(lambda: client.get("/readyz").status_code == 200, within=10)
        assert client.post("/v1/datasets", json=cars(service)).status_code == 202


def test_without_nats_it_says_so_and_ends(tmp_path: Path) -> None:
    import subprocess
    import sys

    from tests.ingests import ROOT
    from tests.servers import free_port

    env = {
        "ONEBLOCK_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "ONEBLOCK_WAREHOUSE": tmp_path.as_uri(),
    }
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "services.ingest"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert time.monotonic() - began < 30  # 10 s, and the start of Python on a busy machine
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("oneblock ingest: can't reach NATS")
    assert "Traceback" not in ended.stderr


async def test_leftovers_of_killed_uploads_are_swept_at_the_start(service: Ingest) -> None:
    incoming = service.warehouse / "uploads" / ".incoming"
    incoming.mkdir(parents=True)
    (incoming / "x.part").write_bytes(b"half")
    service.start()
    await eventually(lambda: not list(incoming.iterdir()), within=20)
