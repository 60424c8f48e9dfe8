"""The one place that imports Lance, with its log kept to errors."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Lance warns about every first fragment of a new dataset; its log level is read at import.
os.environ.setdefault("LANCE_LOG", "error")


class _NoPandas:
    """Finds no pandas."""

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not needed here", name=name)


@contextmanager
def _without_pandas() -> Iterator[None]:
    """pyarrow.dataset loads pandas just to look for it: 1.5 s and 50 MB in every process.

    Who wants pandas' values from Arrow imports pandas before this module.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


with _without_pandas():
    import lance
    from lance.fragment import FragmentMetadata, write_fragments

__all__ = ["FragmentMetadata", "lance", "write_fragments"]
