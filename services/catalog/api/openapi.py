"""What FastAPI doesn't say by itself: the bearer token, and the errors of every path."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.catalog.api.config import release
from services.catalog.api.shapes import Problem


def describe(app: FastAPI) -> None:
    """Replaces the app's OpenAPI by a complete one, made when it is first asked for."""

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=release(), routes=app.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= _problems()
            bearer = {"type": "http", "scheme": "bearer", "description": "needed beyond loopback"}
            document["components"]["securitySchemes"] = {"token": bearer}
            document["security"] = [{}, {"token": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _problems() -> dict[str, object]:
    """The schemas of problem details; `context` refers to them by name."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Problem": schema}
