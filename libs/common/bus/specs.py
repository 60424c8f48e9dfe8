"""The desired spec of every dataset, with a generation that grows when it changes."""

from __future__ import annotations

from libs.common import manifest
from libs.common.bus.bucket import Bucket
from libs.common.bus.faults import Conflict
from libs.common.bus.records import Desired
from libs.common.manifest.model import DataSet


def key_of(dataset: str) -> str:
    """`namespace/name` as a key; a namespace has no dots, so this can't collide."""
    return dataset.replace("/", ".", 1)


class Specs:
    """Bucket `oneblock_specs`; every change is compare-and-set, so two writers can't lose one."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def put(self, dataset: DataSet) -> Desired:
        """Store the spec; the generation grows only if it differs from what is stored."""
        form, digest = manifest.canonical(dataset), manifest.spec_digest(dataset)
        while True:
            stored, revision = await self._read(dataset.dataset)
            same = stored is not None and stored.digest == digest and not stored.deleted
            if same and stored is not None and stored.manifest == form:
                return stored
            generation = stored.generation + (not same) if stored else 1
            wanted = Desired(
                dataset=dataset.dataset, generation=generation, manifest=form, digest=digest
            )
            if await self._write(wanted, revision):
                return wanted

    async def get(self, name: str) -> Desired | None:
        """The spec of `namespace/name`, also a deleted one; None if there never was one."""
        return (await self._read(name))[0]

    async def delete(self, name: str) -> Desired | None:
        """Mark it as deleted, as a new generation; a deleted one stays as it is."""
        while True:
            stored, revision = await self._read(name)
            if stored is None or stored.deleted:
                return stored
            gone = stored.evolve(deleted=True, generation=stored.generation + 1)
            if await self._write(gone, revision):
                return gone

    async def list(self) -> list[Desired]:
        """All specs by name, without deleted ones."""
        entries = await self._bucket.entries(">")
        found = [Desired.model_validate_json(entry.value) for _, entry in entries]
        return [desired for desired in found if not desired.deleted]

    async def _read(self, name: str) -> tuple[Desired | None, int]:
        entry = await self._bucket.get(key_of(name))
        if entry is None:
            return None, 0
        return Desired.model_validate_json(entry.value), entry.revision

    async def _write(self, wanted: Desired, revision: int) -> bool:
        value = wanted.model_dump_json().encode()
        try:
            await self._bucket.update(key_of(wanted.dataset), value, revision)
        except Conflict:
            return False
        return True
