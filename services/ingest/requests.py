"""From an HTTP request to an accepted one: durable in JetStream before it is answered."""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import dataclass

from libs.common import manifest
from libs.common.bus import Bus, RunRecord
from libs.common.crashpoints import crash_point
from libs.common.errors import PermanentError, Problem, TransientError
from libs.common.events import CancelRequested, Cause, DatasetDeleted, IngestRequested
from libs.common.ids import digest, run_id
from libs.common.manifest import DataSet, ManifestError
from libs.common.web.problems import not_found
from libs.stores import Access
from services.ingest import inventory

KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Asked:
    """What became of a request; `record` is the run as it is known by now."""

    record: RunRecord
    duplicate: bool


def read_manifest(body: bytes | dict[str, object]) -> DataSet:
    """A manifest, or ManifestError with everything wrong in it and everything not built yet."""
    dataset = manifest.parse(body)
    if problems := manifest.unsupported(dataset):
        raise ManifestError(problems)
    return dataset


async def check(dataset: DataSet, access: Access) -> None:
    """Raises ManifestError when a source can't be allowed; nothing is listed."""
    wrong = await asyncio.to_thread(inventory.check_sources, dataset, access)
    if wrong := [error for error in wrong if error.code != "source_not_found"]:
        raise ManifestError(Problem(error.code, error.detail, error.path) for error in wrong)


class Requests:
    """Turns what people ask for into facts on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def up(self) -> None:
        """Raises `bus_unavailable` at once, rather than after a timeout, while NATS is away."""
        if self._bus.state != "connected":
            raise TransientError(
                "NATS can't be reached just now, so nothing can be accepted; try again",
                code="bus_unavailable",
            )

    async def ingest(
        self, dataset: DataSet, *, cause: Cause, force: bool, key: str | None
    ) -> Asked:
        """Accept a manifest. The same key and the same request: the same run, once."""
        self.up()
        form = manifest.canonical(dataset)
        fact = IngestRequested(manifest=form, cause=cause, force=force, key=checked_key(key))
        if key is None:
            event = str(uuid.uuid4())
            await self._publish(fact, event)
            return Asked(_new(fact, dataset.dataset, event), duplicate=False)
        event = digest([dataset.dataset, key])
        first = await self._claim(dataset, key, digest([dataset.dataset, form, cause, force]))
        record = await self._bus.runs.get(run_id(event))
        if record is None:
            await self._publish(fact, event)
        return Asked(record or _new(fact, dataset.dataset, event), duplicate=not first)

    async def run(self, name: str) -> RunRecord:
        """A run by its id; raises not_found."""
        self.up()
        record = await self._bus.runs.get(name) if re.fullmatch(r"[\w-]{1,64}", name) else None
        if record is None:
            raise not_found(f"run {name[:80]!r}")
        return record

    async def stored(self, dataset: str) -> DataSet:
        """The stored spec; raises not_found, or dataset_deleted."""
        self.up()
        desired = await self._bus.specs.get(dataset)
        if desired is None:
            raise not_found(f"dataset {dataset!r}")
        if desired.deleted:
            raise PermanentError(
                f"dataset {dataset!r} was deleted; POST its manifest to have it again",
                code="dataset_deleted",
            )
        return read_manifest(desired.manifest)

    async def cancel(self, record: RunRecord, reason: str) -> None:
        """Ask a run to stop; raises run_ended."""
        if record.ended:
            raise PermanentError(
                f"run {record.id} has ended already: {record.state}", code="run_ended"
            )
        await self._bus.publish(CancelRequested(run=record.id, reason=reason))

    async def delete(self, dataset: str) -> tuple[int, list[str]]:
        """Withdraw the spec and stop what works on it; returns generation and those runs."""
        self.up()
        desired = await self._bus.specs.delete(dataset)
        if desired is None:
            raise not_found(f"dataset {dataset!r}")
        await self._bus.publish(DatasetDeleted(dataset=dataset, generation=desired.generation))
        stopped = await self.runs_of(dataset)
        for run in stopped:
            await self._bus.publish(CancelRequested(run=run, reason="the dataset was deleted"))
        return desired.generation, stopped

    async def runs_of(self, dataset: str) -> list[str]:
        """The dataset's active run and the one that waits behind it, unless they have ended."""
        slots = [slot for slot in await self._bus.runs.active() if slot.dataset == dataset]
        ids = [run for s in slots for run in (s.run, s.pending and s.pending.id) if run]
        records = [await self._bus.runs.get(run) for run in ids]
        return [record.id for record in records if record is not None and not record.ended]

    async def _publish(self, fact: IngestRequested, event: str) -> None:
        crash_point("after_accept_before_publish")
        await self._bus.publish(fact, id=event)

    async def _claim(self, dataset: DataSet, key: str, meaning: str) -> bool:
        """Whether the key is used for the first time; raises idempotency_conflict.

        A key belongs to a namespace. A token of the claim tells the first use from a repetition.
        """
        mine = f"{meaning}:{uuid.uuid4().hex}"
        stands = await self._bus.runs.claim(digest([dataset.metadata.namespace, key]), mine)
        if stands.partition(":")[0] != meaning:
            raise PermanentError(
                "this Idempotency-Key was used for another request; take a new key",
                code="idempotency_conflict",
                path="Idempotency-Key",
            )
        return stands == mine


def checked_key(key: str | None) -> str | None:
    """The header's value; raises `invalid_idempotency_key`."""
    if key is not None and not KEY.fullmatch(key):
        raise PermanentError(
            "1 to 255 visible ASCII characters are needed",
            code="invalid_idempotency_key",
            path="Idempotency-Key",
        )
    return key


def _new(fact: IngestRequested, dataset: str, event: str) -> RunRecord:
    """The run as it will be once the request is taken from the stream."""
    return RunRecord(
        id=run_id(event), dataset=dataset, cause=fact.cause, force=fact.force, request_id=event
    )
