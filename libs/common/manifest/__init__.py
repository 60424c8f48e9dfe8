"""The manifest: its model, and reading one with all its errors at once."""

from libs.common.manifest.model import DataSet, Destination, Source, Spec

__all__ = ["DataSet", "Destination", "Source", "Spec"]
