"""/v1/runs: how a run is, stopping it, asking for it again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from libs.common.bus import RunRecord
from libs.common.errors import PermanentError
from libs.common.web.tokens import Identity, require
from services.ingest.api.answers import Accepted, RunView
from services.ingest.api.datasets import Force, Key, Wired, Writer, accepted
from services.ingest.api.parts import errors
from services.ingest.wiring import Wiring

router = APIRouter(tags=["runs"])
Reader = Annotated[Identity, Depends(require("read"))]


@router.get("/v1/runs/{run}", summary="A run, as the bus knows it", responses=errors(404, 422, 503))
async def show(run: str, identity: Reader, wired: Wired) -> RunView:
    return RunView.of(await _seen(run, identity, wired))


@router.post(
    "/v1/runs/{run}/cancel",
    status_code=202,
    summary="Stop a run",
    responses=errors(404, 409, 422, 503),
)
async def cancel(
    run: str,
    identity: Writer,
    wired: Wired,
    reason: Annotated[str, Query(max_length=500)] = "",
) -> RunView:
    record = await _seen(run, identity, wired)
    await wired.requests.cancel(record, reason)
    return RunView.of(record)


@router.post(
    "/v1/runs/{run}/retry",
    status_code=202,
    summary="Run an ended run's dataset again, by its manifest of now",
    responses=errors(404, 409, 422, 503),
)
async def retry(
    run: str,
    response: Response,
    identity: Writer,
    wired: Wired,
    force: Force = False,
    idempotency_key: Key = None,
) -> Accepted:
    record = await _seen(run, identity, wired)
    if not record.ended:
        raise PermanentError(
            f"run {record.id} has not ended ({record.state}); cancel it first, or wait",
            code="conflict",
        )
    dataset = await wired.requests.stored(record.dataset)
    asked = await wired.requests.ingest(dataset, cause="retry", force=force, key=idempotency_key)
    return accepted(asked, response)


async def _seen(run: str, identity: Identity, wired: Wiring) -> RunRecord:
    """The run, if it is in one of the caller's namespaces."""
    record = await wired.requests.run(run)
    identity.require_namespace(record.dataset.partition("/")[0], f"run {run!r}")
    return record
