"""The local lane's worker process."""

from __future__ import annotations

import pyarrow.compute  # noqa: F401  # loaded now, so that the first task finds it warm

from libs.formats import FORMATS
from services.transform.engines._child import serve
from services.transform.operations import OPERATIONS
from services.transform.work import answer, prepare


def main() -> None:
    prepare()
    for name in ("csv", "parquet", "jsonl"):
        if name in FORMATS.keys():  # noqa: SIM118  # a registry is no mapping
            FORMATS.get(name)
    for name in OPERATIONS.keys():  # noqa: SIM118
        OPERATIONS.get(name)
    import services.transform.operations._sql  # noqa: F401

    serve(answer)


if __name__ == "__main__":
    main()
