"""select: [a, b]: these columns, in this order."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from pydantic import JsonValue

from services.transform.operations import Apply, Rowwise, column, names, riding


class Select:
    rowwise: ClassVar[bool] = True

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        return pa.schema([column("select", schema, n) for n in names(arguments)])

    def bind(self, arguments: JsonValue, schema: pa.Schema) -> Apply:
        wanted = self.schema(arguments, schema).names
        return lambda batch: batch.select([*wanted, *riding(batch)])


PLUGIN: Rowwise = Select()
