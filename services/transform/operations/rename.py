"""rename: {old: new}: other names, same columns."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from pydantic import JsonValue

from services.transform.operations import Apply, Rowwise, column, invalid, mapping


class Rename:
    rowwise: ClassVar[bool] = True

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        renamed = mapping(arguments)
        for name in renamed:
            column("rename", schema, name)
        after = [f.with_name(renamed.get(f.name, f.name)) for f in schema]
        _refuse_clashes([f.name for f in after])
        return pa.schema(after)

    def bind(self, arguments: JsonValue, schema: pa.Schema) -> Apply:
        after = self.schema(arguments, schema).names
        return lambda batch: batch.rename_columns([*after, *batch.schema.names[len(after) :]])


def _refuse_clashes(after: list[str]) -> None:
    for name in after:
        if after.count(name) > 1:
            raise invalid("rename", f"two columns would be called {name!r}")


PLUGIN: Rowwise = Rename()
