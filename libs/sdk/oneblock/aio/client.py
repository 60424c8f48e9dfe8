"""The client: everything that people can ask of a stack."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from oneblock import manifests
from oneblock.aio.ground import file_size
from oneblock.aio.sending import AsyncSending, listing
from oneblock.aio.transport import AsyncTransport
from oneblock.aio.waiting import AsyncWaiting
from oneblock.exchange import Request
from oneblock.find import find_stack
from oneblock.models import Accepted, BadItem, Dataset, Json, Page, Run, Upload, Version
from oneblock.names import dataset_path, full_name, path_part
from oneblock.progress import Progress, shifted, silent

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class AsyncClient(AsyncWaiting):
    """A stack's services. Without arguments: the one of ONEBLOCK_HOME, or of ONEBLOCK_*_URL."""

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        catalog_url: str | None = None,
        ingest_url: str | None = None,
        token: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        stack = find_stack(home, catalog_url, ingest_url, token)
        super().__init__(AsyncTransport(stack, timeout=timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the connections."""
        await self._transport.aclose()

    # --- asking for work

    async def apply(
        self,
        manifest: manifests.Manifest | str | os.PathLike[str],
        *,
        wait: bool = False,
        timeout: float | None = None,
        force: bool = False,
        key: str | None = None,
        progress: Progress = silent,
    ) -> Run:
        """Asks that a dataset be brought up to its manifest; uploads the relative files it names.

        `key`: the same key asks for the same run. With `wait`, raises RunFailed, WaitTimeout.
        """
        document = manifests.load(manifest)
        request = await self._request("/v1/datasets", document, progress, force=force)
        return await self._accepted(request, key, wait, timeout)

    async def plan(self, manifest: manifests.Manifest | str | os.PathLike[str]) -> Json:
        """What applying this manifest would do; changes nothing, and uploads nothing.

        Relative files are named where they lie, which a stack on this machine can look at.
        """
        document = manifests.load(manifest)
        local = manifests.relative_sources(document)
        urls = {url: [file.as_uri() for file in files] for url, files in local.items()}
        body = document.with_sources(urls) if local else document.body()
        request = Request("ingest", "POST", "/v1/datasets/plan")
        return await self._transport.json(request.carrying(body))

    async def start(
        self, dataset: str, *, force: bool = False, wait: bool = False, key: str | None = None
    ) -> Run:
        """Asks for another run of a dataset as it is specified."""
        request = Request(
            "ingest", "POST", f"{dataset_path(dataset)}/runs", params={"force": _flag(force)}
        )
        return await self._accepted(request, key, wait, None)

    async def retry(self, run: str, *, wait: bool = False) -> Run:
        """Asks for another run of the dataset of `run`."""
        return await self.start((await self.run(run)).dataset, wait=wait)

    async def cancel(self, run: str) -> Json:
        """Asks for a run to stop."""
        path = f"/v1/runs/{path_part(run)}/cancel"
        return await self._transport.json(Request("ingest", "POST", path, key=uuid.uuid4().hex))

    async def delete(self, dataset: str) -> Json:
        """Withdraws a dataset's spec."""
        return await self._transport.json(Request("ingest", "DELETE", dataset_path(dataset)))

    async def upload(
        self, path: str | os.PathLike[str], *, name: str | None = None, progress: Progress = silent
    ) -> Upload:
        """Sends a local file, or a folder with all below it; a manifest can name its `url`.

        What was sent stays when the connection breaks: it is gone on with.
        """
        if found := manifests.folder(Path(path)):
            return await self._upload_folder(name or found[0], found[1], progress)
        file = manifests.readable(Path(path))
        return await AsyncSending(self._transport, name or file.name, progress).file(file)

    async def _upload_folder(
        self, name: str, files: list[tuple[str, Path]], progress: Progress
    ) -> Upload:
        total, sent = sum(file_size(file) for _, file in files), 0
        listed: list[tuple[str, Upload]] = []
        for path, file in files:
            sending = AsyncSending(self._transport, path, shifted(progress, sent, total))
            listed.append((path, await sending.file(file)))
            sent += listed[-1][1].size
        found = await AsyncSending(self._transport, name, silent).content(listing(listed))
        said = {"url": f"{found.url}/", "size": sent, "files": len(listed)}
        return Upload.parse({**found.raw, **said})

    # --- looking

    async def config(self) -> Json:
        """Addresses, versions and limits of the stack."""
        return await self._transport.json(Request("catalog", "GET", "/v1/config"))

    async def datasets(self, *, limit: int = 100) -> list[Dataset]:
        """The datasets, newest first."""
        return [Dataset.parse(d) for d in await self._list("/v1/datasets", limit, {})]

    async def dataset(self, name: str) -> Dataset:
        """One dataset; `name` is `namespace/name`, or `name` in `default`."""
        return Dataset.parse(
            await self._transport.json(Request("catalog", "GET", dataset_path(name)))
        )

    async def versions(self, dataset: str, *, limit: int = 100) -> list[Version]:
        """A dataset's versions, newest first."""
        found = await self._list(f"{dataset_path(dataset)}/versions", limit, {})
        return [Version.parse(v) for v in found]

    async def runs(
        self, dataset: str | None = None, *, state: str | None = None, limit: int = 100
    ) -> list[Run]:
        """Runs, newest first."""
        of = full_name(dataset) if dataset else None
        found = await self._list("/v1/runs", limit, {"dataset": of, "state": state})
        return [Run.parse(r) for r in found]

    async def rows(
        self,
        dataset: str,
        *,
        version: int | None = None,
        offset: int = 0,
        limit: int = 100,
        columns: Sequence[str] | None = None,
    ) -> Page:
        """A page of rows of a version, the newest unless told."""
        params = {
            "offset": offset,
            "length": limit,
            "version": version,
            "columns": list(columns) if columns else None,
        }
        path = f"{dataset_path(dataset)}/rows"
        return Page.parse(await self._transport.json(Request("catalog", "GET", path, params)))

    async def quarantine(
        self, dataset: str, *, version: int | None = None, limit: int = 100
    ) -> list[BadItem]:
        """What couldn't be read when a version was made, the newest unless told."""
        path = f"{dataset_path(dataset)}/quarantine"
        return [BadItem.parse(i) for i in await self._list(path, limit, {"version": version})]

    async def quarantined_bytes(
        self, dataset: str, number: int, *, version: int | None = None
    ) -> bytes:
        """The bytes that are kept of one item."""
        path = f"{dataset_path(dataset)}/quarantine/{number}"
        request = Request("catalog", "GET", path, {"version": version})
        return (await self._transport.send(request)).content

    async def to_pylist(self, dataset: str, *, version: int | None = None) -> list[dict[str, Any]]:
        """Every row of a version as a dict; reads page by page."""
        first = await self.rows(dataset, version=version, limit=1)
        found: list[dict[str, Any]] = []
        while True:
            page = await self.rows(dataset, version=first.version or version, offset=len(found))
            found.extend(dict(v) for v in page.values())
            if not page.rows or len(found) >= page.num_rows_total:
                return found

    async def to_arrow(self, dataset: str, *, version: int | None = None) -> pa.Table:
        """A version as a `pyarrow.Table` (the extra `oneblock[arrow]`)."""
        import pyarrow as pa

        return pa.Table.from_pylist(await self.to_pylist(dataset, version=version))

    async def to_pandas(self, dataset: str, *, version: int | None = None) -> pd.DataFrame:
        """A version as a `pandas.DataFrame` (the extra `oneblock[pandas]`)."""
        import pandas as pd

        return pd.DataFrame(await self.to_pylist(dataset, version=version))

    async def _list(self, path: str, limit: int, params: Json) -> list[Json]:
        return [item async for item in self._items(path, limit, params)]

    async def _items(self, path: str, limit: int, params: Json) -> AsyncIterator[Json]:
        cursor: str | None = None
        while limit > 0:
            query = {**params, "limit": min(limit, 100), "cursor": cursor}
            page = await self._transport.json(Request("catalog", "GET", path, query))
            for item in page.get("items") or ():
                yield item
            limit -= len(page.get("items") or ())
            cursor = page.get("next_cursor")
            if not cursor:
                return

    async def _request(
        self, path: str, document: manifests.Document, progress: Progress, *, force: bool
    ) -> Request:
        """The request for a manifest, with the relative files it names uploaded."""
        local = manifests.relative_sources(document)
        request = Request("ingest", "POST", path, {"force": _flag(force)})
        if not local:
            return request.carrying(document.body())
        urls: dict[str, list[str]] = {}
        for url, files in local.items():
            whole = [document.base / url] if manifests.folder(document.base / url) else files
            urls[url] = [(await self.upload(one, progress=progress)).url for one in whole]
        return request.carrying(document.with_sources(urls))

    async def _accepted(
        self, request: Request, key: str | None, wait: bool, timeout: float | None
    ) -> Run:
        asked = replace(request, key=key or uuid.uuid4().hex)
        accepted = Accepted.parse(await self._transport.json(asked))
        if wait:
            return await self.wait(accepted.run, timeout=timeout)
        found = accepted.raw.get("run")
        return Run.parse(found if isinstance(found, dict) else {"id": accepted.run})


def _flag(value: bool) -> str | None:
    return "true" if value else None
