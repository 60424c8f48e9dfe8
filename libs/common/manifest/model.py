"""The manifest as a model: what a dataset is made from, how, and where it goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SourceType = Literal["csv", "parquet", "jsonl", "image", "text", "binary", "tfrecords", "auto"]
DestinationFormat = Literal["csv", "parquet", "jsonl", "image", "text", "binary", "tfrecords"]
DestinationType = Literal["local", "nfs", "s3", "qdrant"]
DistributeOp = Literal["map", "filter", "repartition"]


def as_list(value: object) -> object:
    """One thing or a list of them, always as a list."""
    return value if isinstance(value, list) else [value]


def image_by_name(value: object) -> object:
    """A bare string is the image's name."""
    return {"name": value} if isinstance(value, str) else value


class Part(BaseModel):
    """A part of a manifest: frozen, written as in YAML, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True
    )


class SecretRef(Part):
    """Credentials by name; never their values."""

    name: str


class Metadata(Part):
    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Source(Part):
    type: SourceType
    url: Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)]
    filter: str | None = None  # which files, as a glob on names
    key: list[str] = []  # columns that identify a row
    copy_: Literal["auto", "always", "never"] = Field("auto", alias="copy")
    secretRef: SecretRef | None = None
    options: dict[str, Any] = {}  # reader options, checked per format


class Vector(Part):
    column: str | None = None
    model: str | None = None
    chunkSize: int | None = Field(None, gt=0)
    chunkOverlap: int | None = Field(None, ge=0)
    distance: Literal["cosine", "dot", "euclid", "manhattan"] = "cosine"


class Destination(Part):
    type: DestinationType
    format: DestinationFormat | None = None
    url: str
    secretRef: SecretRef | None = None
    options: dict[str, Any] = {}
    vector: Vector | None = None


class Image(Part):
    name: str
    pullPolicy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"


class RayJobConfig(Part):
    distributeOps: Annotated[list[DistributeOp], BeforeValidator(as_list)] = ["map"]
    parallelism: int | None = Field(None, ge=1, le=10_000)
    gpu: float = Field(0, ge=0, le=1024)
    batch_size: int | None = Field(None, ge=1)
    scheduling: Literal["DEFAULT", "SPREAD"] = "DEFAULT"


class RayClusterConfig(Part):
    address: str


class Trigger(Part):
    onChange: bool = False
    schedule: str | None = None


class Spec(Part):
    source: Source
    destination: Annotated[list[Destination], BeforeValidator(as_list)] = []
    entrypoint: str | None = None
    image: Annotated[Image | None, BeforeValidator(image_by_name)] = None
    rayJobConfig: RayJobConfig | None = None
    rayClusterConfig: RayClusterConfig | None = None
    transform: list[dict[str, Any]] = []  # one operation each: {name: arguments}
    trigger: Trigger | None = None
    engine: Literal["auto", "local", "ray"] = "auto"
    onError: Literal["fail", "quarantine"] = "fail"
    maxBadRatio: float = Field(0.01, ge=0, le=1)
    labels: list[dict[str, Any]] = []


class DataSet(Part):
    """A whole manifest; `DataSet.model_dump(mode="json", by_alias=True)` is its canonical form."""

    apiVersion: Literal["core.oneblock.ai/v1alpha1", "ml.oneblock.ai/v1alpha1"]
    kind: Literal["DataSet"]
    metadata: Metadata
    spec: Spec

    @property
    def dataset(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
