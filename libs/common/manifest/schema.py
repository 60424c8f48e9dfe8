"""How fields that accept several shapes look in the JSON Schema."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from libs.common.manifest.operations import OPERATIONS


@dataclass(frozen=True)
class OneOrMore:
    """Marks a list that may be written as one thing without a list around it."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [many["items"], many]}


@dataclass(frozen=True)
class OrName:
    """Marks a mapping that may be written as its name alone."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, *handler(core)["anyOf"]]}


def steps_schema() -> JsonSchemaValue:
    """A list of mappings with one operation each."""
    properties = {name: _arguments(name) for name in OPERATIONS}
    return {
        "type": "array",
        "maxItems": 100,
        "items": {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    }


def _arguments(name: str) -> JsonSchemaValue:
    schema = TypeAdapter(OPERATIONS[name]).json_schema()
    if name in ("select", "dedupe"):  # one column without a list; `dedupe: all`, or nothing
        short = {"type": "string" if name == "select" else ["string", "null"]}
        said = {"description": schema.pop("description")}
        schema = said | {"anyOf": [short, schema]}
    return schema
