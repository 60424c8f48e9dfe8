"""Keeps a service small while gigabytes of rows flow through Lance and Arrow."""

from __future__ import annotations

import ctypes
import sys
from importlib.machinery import ModuleSpec

# <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
LARGE = 256 * 1024  # bytes from which an allocation is its own mapping, returned when freed


def keep_flat(large: int = LARGE) -> None:
    """Call first in a service's `__main__`, before anything imports Arrow.

    Lance allocates by malloc on several threads, and glibc keeps what they free in an arena each:
    reading 1 GB left 110 MB more behind than reading 100 MB, and with this as much. Arrow's own
    pool keeps about 40 MB more than malloc then does. And Arrow imports pandas wherever it is
    installed (30 MB, a second), which a service that moves Arrow batches has no use for.

    `large`: ingest asks for more, since its network buffers would be mapped anew each time, which
    cost it three quarters of its speed.
    """
    sys.meta_path.insert(0, _WithoutPandas())
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(libc, "gnu_get_libc_version"):
        for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            libc.mallopt(parameter, large)
        libc.mallopt(_ARENA_MAX, 2)
        _use_malloc()


def _use_malloc() -> None:
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())


class _WithoutPandas:
    """Finds no pandas; Arrow then does without."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("this service does without pandas", name=name)
        return None
