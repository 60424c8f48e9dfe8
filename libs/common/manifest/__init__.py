"""The manifest: its model, and reading one with all its errors at once."""

from libs.common.manifest.digests import canonical, plan_digest, spec_digest
from libs.common.manifest.errors import ManifestError
from libs.common.manifest.model import DataSet, Destination, Source, Spec
from libs.common.manifest.parse import parse
from libs.common.manifest.supported import unsupported

__all__ = [
    "DataSet",
    "Destination",
    "ManifestError",
    "Source",
    "Spec",
    "canonical",
    "parse",
    "plan_digest",
    "spec_digest",
    "unsupported",
]
