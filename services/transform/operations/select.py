"""select: [a, b]: these columns, in this order."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from pydantic import JsonValue

from services.transform.operations import Apply, Rowwise, column, invalid, names, riding


class Select:
    rowwise: ClassVar[bool] = True

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        wanted = names("select", arguments)
        if not wanted:
            raise invalid("select", "name at least one column")
        return pa.schema([column("select", schema, n) for n in wanted])

    def bind(self, arguments: JsonValue, schema: pa.Schema) -> Apply:
        wanted = self.schema(arguments, schema).names
        return lambda batch: batch.select([*wanted, *riding(batch)])


PLUGIN: Rowwise = Select()
