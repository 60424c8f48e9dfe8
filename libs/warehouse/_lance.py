"""The one place that imports Lance, with its log kept to errors."""

import os

# Lance warns about every first fragment of a new dataset; its log level is read at import.
os.environ.setdefault("LANCE_LOG", "error")

import lance
from lance.fragment import FragmentMetadata, write_fragments

__all__ = ["FragmentMetadata", "lance", "write_fragments"]
