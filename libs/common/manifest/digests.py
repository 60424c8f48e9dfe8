"""A manifest in one canonical form, and what of it decides whether work is done again.

Digests leave defaults out: a field that a later release adds doesn't change those of older
manifests.
"""

from __future__ import annotations

from libs.common.ids import digest
from libs.common.manifest.model import DataSet, Part, Spec


def canonical(dataset: DataSet) -> dict[str, object]:
    """JSON with all defaults written out; parses to the same dataset."""
    return dataset.model_dump(mode="json", by_alias=True)


def spec_digest(dataset: DataSet) -> str:
    """Changes when the spec says something else; then the generation grows."""
    return digest(_said(dataset.spec))


def plan_digest(dataset: DataSet) -> str:
    """Changes when the same source files would become other rows."""
    spec = dataset.spec
    source = spec.source.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude={"copy_", "secretRef"}
    )
    deciding: dict[str, object] = {"source": source, "transform": spec.transform}
    if spec.entrypoint is not None:
        deciding |= {"entrypoint": spec.entrypoint, "image": spec.image and _said(spec.image)}
    if job := _job(spec):
        deciding["rayJobConfig"] = job
    if spec.onError != "fail":
        deciding |= {"onError": spec.onError, "maxBadRatio": spec.maxBadRatio}
    return digest(deciding)


def _said(part: Part) -> dict[str, object]:
    said: dict[str, object] = part.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return said


def _job(spec: Spec) -> dict[str, object] | None:
    """How code is applied; without code only the number of parts matters."""
    job = spec.rayJobConfig
    if job is None:
        return None
    if spec.entrypoint is not None:
        return {"ops": job.distributeOps, "parts": job.parallelism, "batch": job.batch_size}
    return {"parts": job.parallelism} if "repartition" in job.distributeOps else None
