"""Arrow types as the Hugging Face dataset viewer writes them.

https://huggingface.co/docs/dataset-viewer/data_types
"""

from __future__ import annotations

from typing import cast

import pyarrow as pa
import pyarrow.types as t

Feature = dict[str, object]

# Arrow's name → the viewer's; all other names are the same.
_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64", "date32[day]": "date32",
          "date64[ms]": "date64", "large_binary": "binary"}  # fmt: skip


def features(schema: pa.Schema) -> list[Feature]:
    """One `{feature_idx, name, type}` per column."""
    return [
        {"feature_idx": index, "name": field.name, "type": feature(field.type)}
        for index, field in enumerate(schema)
    ]


def feature(kind: pa.DataType) -> Feature:
    """`{"dtype": …, "_type": "Value"}`, or nested ones for lists, structs and maps."""
    if isinstance(kind, pa.BaseExtensionType):
        return feature(kind.storage_type)
    if t.is_dictionary(kind):
        return feature(cast(pa.DictionaryType, kind).value_type)
    if t.is_struct(kind):
        return {field.name: feature(field.type) for field in cast(pa.StructType, kind)}
    if t.is_map(kind):
        pair = cast(pa.MapType, kind)
        entry = {"key": feature(pair.key_type), "value": feature(pair.item_type)}
        return {"feature": entry, "_type": "List"}
    if t.is_fixed_size_list(kind):
        fixed = cast(pa.FixedSizeListType, kind)
        return {"feature": feature(fixed.value_type), "length": fixed.list_size, "_type": "List"}
    if _is_list(kind):
        return {"feature": feature(cast(pa.ListType, kind).value_type), "_type": "List"}
    return {"dtype": _dtype(kind), "_type": "Value"}


def _is_list(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (t.is_list, t.is_large_list, t.is_list_view, t.is_large_list_view)
    )


def _dtype(kind: pa.DataType) -> str:
    if t.is_fixed_size_binary(kind):
        return "binary"
    return _NAMES.get(str(kind), str(kind))
