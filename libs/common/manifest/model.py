"""The manifest as a model: what a dataset is made from, how, and where it goes.

The texts below the fields are what editors show; they end up in the JSON Schema and the CRD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
    model_validator,
)

from libs.common.manifest import names, urls
from libs.common.manifest.entrypoint import check as one_of_the_forms
from libs.common.manifest.operations import normalised
from libs.common.manifest.schema import OneOrMore, OrName, steps_schema

SourceType = Literal["auto", "csv", "parquet", "jsonl", "image", "text", "binary", "tfrecords"]
DestinationFormat = Literal["csv", "parquet", "jsonl", "image", "text", "binary", "tfrecords"]
DestinationType = Literal["local", "nfs", "s3", "qdrant"]
DistributeOp = Literal["map", "filter", "repartition"]


def as_list(value: object) -> object:
    """One thing or a list of them, always as a list."""
    return value if isinstance(value, list) else [value]


def image_by_name(value: object) -> object:
    """A bare string is the image's name."""
    return {"name": value} if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=1024)]
Subdomain = Annotated[
    str,
    AfterValidator(names.subdomain),
    Field(json_schema_extra={"pattern": f"^{names.SUBDOMAIN}$", "maxLength": 253}),
]
DnsLabel = Annotated[
    str,
    AfterValidator(names.label),
    Field(json_schema_extra={"pattern": f"^{names.LABEL}$", "maxLength": 63}),
]
Options = dict[str, JsonValue]


class Part(BaseModel):
    """A part of a manifest: frozen, written as in YAML, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        """A field without a value (`rayClusterConfig:`) is as good as not written."""
        if not isinstance(value, Mapping):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {k: v for k, v in value.items() if v is not None or k not in known}


class SecretRef(Part):
    """Credentials by name; never their values."""

    name: Subdomain
    """Name of the secret that holds the credentials."""


class Metadata(Part):
    """Which dataset this is."""

    name: Subdomain
    """Name of the dataset, as a DNS name: lower-case letters, digits, `-` and `.`."""
    namespace: DnsLabel = "default"
    """Namespace that the dataset belongs to."""
    labels: dict[str, str] = {}
    """Short key-value pairs to find datasets by; Kubernetes' rules."""
    annotations: dict[str, str] = {}
    """Key-value pairs that people and programs keep with the dataset; the platform ignores them."""


class Source(Part):
    """Which files the dataset is made from."""

    type: SourceType
    """How the files are read; auto: by their names, else their content, if all are of one type."""
    url: Annotated[
        list[Annotated[str, AfterValidator(urls.source)]],
        BeforeValidator(as_list),
        Field(min_length=1, max_length=1000),
        OneOrMore(),
    ]
    """One URL or a list: upload:// http(s):// nfs:// s3:// file://; a file, a prefix or a glob."""
    filter: Text | None = None
    """Which files below the URLs: a glob on their names, such as `*.csv`."""
    key: Annotated[list[Text], BeforeValidator(as_list), Field(max_length=100), OneOrMore()] = []
    """Columns that identify a row; without them a row is known by its content."""
    copy_: Literal["auto", "always", "never"] = Field("auto", alias="copy")
    """Whether files are copied: auto copies uploads and http, and refers to the rest."""
    secretRef: SecretRef | None = None
    """Credentials to read with."""
    options: Options = {}
    """Reader options of the type, such as `{delimiter: ";", header: true}` for csv."""


class Vector(Part):
    """How rows become points of a vector database."""

    column: Text | None = None
    """Column that holds the text or the vectors."""
    model: Text | None = None
    """Embedding model for text."""
    chunkSize: int | None = Field(None, ge=1, le=1_000_000)
    """Characters per chunk."""
    chunkOverlap: int | None = Field(None, ge=0, le=1_000_000)
    """Characters that neighbouring chunks share; less than chunkSize."""
    distance: Literal["cosine", "dot", "euclid", "manhattan"] = "cosine"
    """How the database compares vectors."""


class Destination(Part):
    """Where each version is brought to."""

    type: DestinationType
    """Kind of destination."""
    format: DestinationFormat | None = None
    """Format of the files written there; only qdrant needs none."""
    url: Annotated[str, AfterValidator(urls.destination)]
    """Folder (file:///… or an absolute path), nfs://host/path, s3://bucket/prefix, or http(s)://…"""
    secretRef: SecretRef | None = None
    """Credentials to write with."""
    options: Options = {}
    """Writer options of the format."""
    vector: Vector | None = None
    """For qdrant: what is embedded, and how."""


class Image(Part):
    """Container image that the entrypoint runs in; a bare string is its name."""

    name: Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
    """Reference of the image."""
    pullPolicy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the image is pulled."""


class RayJobConfig(Part):
    """How the entrypoint is applied."""

    distributeOps: Annotated[
        list[DistributeOp],
        BeforeValidator(as_list),
        Field(min_length=1, max_length=16),
        OneOrMore(),
    ] = ["map"]
    """How a function is applied: map, filter or repartition, or a list of them in order."""
    parallelism: int | None = Field(None, ge=1, le=10_000)
    """Tasks at once; for repartition the number of parts."""
    gpu: float = Field(0, ge=0, le=1024)
    """GPUs per task."""
    batch_size: int | None = Field(None, ge=1, le=100_000_000)
    """Rows that the function gets at once."""
    scheduling: Literal["DEFAULT", "SPREAD"] = "DEFAULT"
    """SPREAD places tasks on as many nodes as there are."""


class RayClusterConfig(Part):
    """A Ray cluster of one's own; absent: the platform's."""

    address: Annotated[str, AfterValidator(urls.cluster)]
    """Its client server: ray://host:port."""


class Trigger(Part):
    """What brings the dataset up to date without being asked."""

    onChange: bool = False
    """Run when files below the sources change."""
    schedule: Text | None = None
    """Run at these times: five cron fields, such as `0 * * * *`."""


class Spec(Part):
    """What is read, what is done to it, and where it goes."""

    source: Source
    """Which files the dataset is made from."""
    destination: Annotated[
        list[Destination], BeforeValidator(as_list), Field(max_length=32), OneOrMore()
    ] = []
    """Where versions are brought to: one, a list, or none (the warehouse alone keeps them)."""
    entrypoint: Annotated[Text, AfterValidator(one_of_the_forms)] | None = None
    """Code: file.py:function, package.module:function, or `python script.py arguments…`."""
    image: Annotated[Image | None, BeforeValidator(image_by_name), OrName()] = None
    """Container image that the entrypoint runs in."""
    rayJobConfig: RayJobConfig | None = None
    """How the entrypoint is applied."""
    rayClusterConfig: RayClusterConfig | None = None
    """A Ray cluster of one's own; absent: the platform's."""
    transform: Annotated[
        list[Annotated[dict[str, JsonValue], AfterValidator(normalised)]],
        Field(max_length=100),
        WithJsonSchema(steps_schema()),
    ] = []
    """Built-in operations in order, one `{name: arguments}` each."""
    trigger: Trigger | None = None
    """What brings the dataset up to date without being asked."""
    engine: Literal["auto", "local", "ray"] = "auto"
    """Where the work is done; auto: small inputs in the local lane, the rest on Ray."""
    onError: Literal["fail", "quarantine"] = "fail"
    """What a file or row that can't be processed means: the run fails, or it is set aside."""
    maxBadRatio: float = Field(0.01, ge=0, le=1)
    """With quarantine: the share of bad rows above which the run fails all the same."""
    labels: Annotated[list[dict[str, JsonValue]], Field(max_length=1000)] = []
    """The label schema: which labels people, rules and models may give to rows."""


class DataSet(Part):
    """A dataset's manifest: which files it is made from, how, and where its versions go."""

    apiVersion: Literal["core.oneblock.ai/v1alpha1", "ml.oneblock.ai/v1alpha1"]
    """Version of this format."""
    kind: Literal["DataSet"]
    """Always DataSet."""
    metadata: Metadata
    """Which dataset this is."""
    spec: Spec
    """What is read, what is done to it, and where it goes."""

    @property
    def dataset(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
