"""filter: "price > 10": rows where a SQL condition is true (false and unknown are dropped)."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from pydantic import JsonValue

from libs.common.errors import PermanentError
from services.transform.operations import Apply, Rowwise


class Filter:
    rowwise: ClassVar[bool] = True

    def schema(self, arguments: JsonValue, schema: pa.Schema) -> pa.Schema:
        from services.transform.operations._sql import condition  # sqlglot: in workers alone

        condition(str(arguments), schema)
        return schema

    def bind(self, arguments: JsonValue, schema: pa.Schema) -> Apply:
        from services.transform.operations._sql import BROKEN, condition

        text = str(arguments)
        evaluate = condition(text, schema)

        def apply(batch: pa.RecordBatch) -> pa.RecordBatch:
            try:
                mask = evaluate(batch)
            except BROKEN as error:
                raise PermanentError(
                    f"filter: {text!r} failed on a value: {error}", code="filter_failed"
                ) from error
            if isinstance(mask, pa.Scalar):
                return batch if mask.as_py() else batch.slice(0, 0)
            return batch.slice(0, 0) if pa.types.is_null(mask.type) else batch.filter(mask)

        return apply


PLUGIN: Rowwise = Filter()
