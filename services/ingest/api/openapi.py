"""The OpenAPI document: FastAPI's, with how errors and tokens really look."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from libs.common.manifest import DataSet
from services.ingest.api.answers import ProblemAnswer


def install(app: FastAPI) -> None:
    """Made when it is first asked for, then kept."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version="1.0.0",
        description="Accepts manifests and files. Answers of 202 are durable. Errors are problem "
        "details (RFC 9457). Without a tokens file the service listens on loopback only and "
        "needs no token.",
        routes=app.routes,
    )
    components = found.setdefault("components", {})
    for model in (ProblemAnswer, DataSet):  # that routes name, but don't take or give themselves
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = schema.pop("$defs", {})
        components.setdefault("schemas", {}).update({**parts, model.__name__: schema})
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}, {}]
    return found
