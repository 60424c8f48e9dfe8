"""What the catalog's OpenAPI promises holds, by schemathesis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
from openapi_spec_validator import validate

from libs.common.bus.admin import migrate
from tests.catalogs import catalog_process, ended, manifest_of, story, tell, want
from tests.openapi import faults_found
from tests.servers import nats_server

CARS = "default/cars"


def test_schemathesis_finds_no_fault(tmp_path: Path) -> None:
    table = pa.table({"id": list(range(30)), "tags": [["a"], None, []] * 10})
    with nats_server(tmp_path) as nats:
        asyncio.run(migrate(nats.url))
        with catalog_process(tmp_path / "home", nats) as catalog, catalog.client() as client:
            generation = want(nats, manifest_of(CARS))
            run = "run-0123456789abcdef0123"  # the example in the document
            tell(nats, *story(catalog.warehouse, CARS, run, table, generation))
            ended(client, run)
            validate(client.get("/openapi.json").json())
            found = faults_found(catalog.url, tmp_path, exclude=["/v1/events"])
            assert not found, found
            assert client.get("/healthz").status_code == 200
