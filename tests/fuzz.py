"""How many inputs are made up for readers: few in `make test`, many in `make fuzz`.

`ONEBLOCK_FUZZ` multiplies them; `ONEBLOCK_FUZZ_SEED` is where seeds begin. A failed test names its
seed, so that one repeats it; hypothesis keeps and prints its own.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = max(1, int(os.environ.get("ONEBLOCK_FUZZ") or 1))
FIRST = int(os.environ.get("ONEBLOCK_FUZZ_SEED") or 0)


def relaxed(examples: int) -> settings:
    """A busy machine is no failure; each example may find what the one before left."""
    return settings(
        deadline=None,
        max_examples=examples * TIMES,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def seeds(count: int) -> range:
    """What made-up inputs are drawn from."""
    return range(FIRST, FIRST + count * TIMES)
