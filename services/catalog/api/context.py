"""What every route has at hand, and what all of them say in OpenAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict

from libs.common.errors import PermanentError
from libs.common.manifest.names import LABEL, SUBDOMAIN
from libs.common.web.tokens import Identity, require
from services.catalog.hub import Hub
from services.catalog.progress import Board
from services.catalog.readers import Readers
from services.catalog.settings import CatalogSettings
from services.catalog.store.database import Database

RUN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
NAME = rf"{LABEL}/{SUBDOMAIN}"
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_SAYS = {
    401: "No token, or one that is unknown, revoked or expired",
    403: "The token's scopes don't allow it",
    404: "Absent, or in a namespace that the token doesn't see",
    421: "Not an address of this machine",
    422: "A parameter is wrong; `errors` names each",
    503: "The database or the bus can't be reached just now",
}
RESPONSES: dict[int | str, dict[str, object]] = {
    status: {"description": said, "content": PROBLEM} for status, said in _SAYS.items()
}


@dataclass(frozen=True)
class Catalog:
    """The parts that the app wired."""

    settings: CatalogSettings
    database: Database
    readers: Readers
    board: Board
    hub: Hub


class Asked(BaseModel):
    """Query parameters: an unknown one is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


def catalog_of(request: Request) -> Catalog:
    """The app's parts; there once it has started."""
    return cast(Catalog, request.app.state.catalog)


Here = Annotated[Catalog, Depends(catalog_of)]
Reader = Annotated[Identity, Depends(require("read"))]
Namespace = Annotated[str, Path(pattern=f"^{LABEL}$", max_length=63, examples=["default"])]
Name = Annotated[str, Path(pattern=f"^{SUBDOMAIN}$", max_length=253, examples=["cars"])]
RunId = Annotated[
    str, Path(pattern=f"^{RUN}$", max_length=128, examples=["run-0123456789abcdef0123"])
]


def namespaces_of(identity: Identity) -> frozenset[str] | None:
    """For queries: the namespaces that the caller sees, None for all."""
    return None if "*" in identity.namespaces else identity.namespaces


def dataset_absent(name: str) -> PermanentError:
    return PermanentError(f"dataset {name} not found", code="dataset_not_found")


def version_absent(name: str, number: int | None) -> PermanentError:
    said = f"{name} has no version yet" if number is None else f"{name} has no version v{number}"
    return PermanentError(said, code="version_not_found")


def run_absent(run: str) -> PermanentError:
    return PermanentError(f"run {run} not found", code="run_not_found")


def visible(identity: Identity, dataset: str) -> None:
    """Raises `dataset_not_found` for a dataset of a namespace that the caller doesn't see."""
    if not identity.sees(dataset.partition("/")[0]):
        raise dataset_absent(dataset)
