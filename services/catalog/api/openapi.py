"""What FastAPI doesn't say by itself: the bearer token, and the errors of every path."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.catalog.api.config import release


def describe(app: FastAPI) -> None:
    """Replaces the app's OpenAPI by a complete one, made when it is first asked for."""

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=release(), routes=app.routes)
            bearer = {"type": "http", "scheme": "bearer", "description": "needed beyond loopback"}
            document.setdefault("components", {})["securitySchemes"] = {"token": bearer}
            document["security"] = [{}, {"token": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
