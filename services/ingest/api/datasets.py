"""/v1/datasets: bring a dataset up to a manifest, look what that would do, withdraw it."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from libs.common.web.tokens import Identity, require
from services.ingest.api.answers import Accepted, Deleted, Plan, RunView
from services.ingest.api.parts import MANIFEST_BODY, errors, manifest_of
from services.ingest.planning import plan
from services.ingest.requests import Asked, check
from services.ingest.wiring import Wiring, wiring

router = APIRouter(tags=["datasets"])
Writer = Annotated[Identity, Depends(require("write"))]
Wired = Annotated[Wiring, Depends(wiring)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="the same key and request are the same run, however often it is sent",
    ),
]
Force = Annotated[bool, Query(description="do the work even where nothing changed")]


@router.post(
    "/v1/datasets",
    status_code=202,
    summary="Bring a dataset up to this manifest",
    openapi_extra=MANIFEST_BODY,
    responses=errors(400, 404, 409, 413, 415, 422, 503),
)
async def apply(
    request: Request,
    response: Response,
    identity: Writer,
    wired: Wired,
    force: Force = False,
    idempotency_key: Key = None,
) -> Accepted:
    dataset = await manifest_of(request)
    identity.require_namespace(dataset.metadata.namespace, f"dataset {dataset.dataset!r}")
    await check(dataset, wired.access)
    asked = await wired.requests.ingest(dataset, cause="request", force=force, key=idempotency_key)
    return accepted(asked, response)


@router.post(
    "/v1/datasets/plan",
    summary="What a manifest would do, without doing it",
    openapi_extra=MANIFEST_BODY,
    responses=errors(400, 404, 413, 415, 422, 503),
)
async def preview(request: Request, identity: Writer, wired: Wired) -> Plan:
    dataset = await manifest_of(request)
    identity.require_namespace(dataset.metadata.namespace, f"dataset {dataset.dataset!r}")
    wired.requests.up()
    stored = await wired.bus.specs.get(dataset.dataset)
    active = next(iter(await wired.requests.runs_of(dataset.dataset)), None)
    return await asyncio.to_thread(
        plan, dataset, stored, active, wired.access, wired.settings.local_bytes
    )


@router.post(
    "/v1/datasets/{namespace}/{name}/runs",
    status_code=202,
    summary="Run the stored manifest again",
    responses=errors(404, 409, 422, 503),
)
async def rerun(
    namespace: str,
    name: str,
    response: Response,
    identity: Writer,
    wired: Wired,
    force: Force = False,
    idempotency_key: Key = None,
) -> Accepted:
    identity.require_namespace(namespace, f"dataset {_shown(namespace, name)}")
    dataset = await wired.requests.stored(f"{namespace}/{name}")
    asked = await wired.requests.ingest(dataset, cause="request", force=force, key=idempotency_key)
    return accepted(asked, response)


@router.delete(
    "/v1/datasets/{namespace}/{name}",
    status_code=202,
    summary="Withdraw a dataset's manifest; its versions stay",
    responses=errors(404, 422, 503),
)
async def delete(namespace: str, name: str, identity: Writer, wired: Wired) -> Deleted:
    identity.require_namespace(namespace, f"dataset {_shown(namespace, name)}")
    generation, stopped = await wired.requests.delete(f"{namespace}/{name}")
    return Deleted(dataset=f"{namespace}/{name}", generation=generation, cancelled=stopped)


def accepted(asked: Asked, response: Response) -> Accepted:
    """202 with the address at which the run can be asked for."""
    response.headers["Location"] = f"/v1/runs/{asked.record.id}"
    return Accepted(
        run=RunView.of(asked.record), dataset=asked.record.dataset, duplicate=asked.duplicate
    )


def _shown(namespace: str, name: str) -> str:
    return repr(f"{namespace}/{name}"[:160])
