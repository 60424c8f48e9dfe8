"""The local lane's worker process."""

from __future__ import annotations

import tempfile

import pyarrow as pa

from libs.formats import FORMATS
from libs.warehouse.fragments import write_fragments
from services.transform.engines._child import serve
from services.transform.operations import OPERATIONS
from services.transform.operations._sql import condition
from services.transform.work import answer, prepare


def warm() -> None:
    """Loads and uses once what the first task would otherwise wait for."""
    for registry in (FORMATS, OPERATIONS):
        for name in registry.keys():  # noqa: SIM118  # a registry is no mapping
            registry.get(name)
    batch = pa.record_batch({"a": [1]})
    condition("a > 0 AND a IS NOT NULL", batch.schema)
    with tempfile.TemporaryDirectory(prefix="oneblock-warm-") as folder:
        write_fragments(f"{folder}/x.lance", [batch], batch.schema)


if __name__ == "__main__":
    prepare()
    warm()
    serve(answer)
