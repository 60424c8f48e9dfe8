"""How long a source may take: tries that wait longer each time, and bytes that come too slowly."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from libs.common.errors import TransientError

FIRST, LONGEST = 0.1, 5.0  # seconds between two tries
GRACE = 5.0  # seconds before a rate is looked at

Clock = Callable[[], float]


@dataclass
class Patience:
    """Tries again until nothing has come for `seconds`; what comes starts the time anew."""

    what: str  # is named in the error
    seconds: float
    clock: Clock = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _since: float = field(init=False)
    _tries: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def progressed(self) -> None:
        """Something came."""
        self._since, self._tries = self.clock(), 0

    def wait(self, error: Exception, said: str) -> None:
        """Sleeps before the next try; raises TransientError `source_unavailable` when spent."""
        pause = min(LONGEST, FIRST * 2**self._tries) * random.uniform(0.5, 1.0)
        self._tries += 1
        if self.clock() + pause - self._since > self.seconds:
            raise TransientError(
                f"{self.what}: {said}; tried {self._tries} times in {self.seconds:g} s",
                code="source_unavailable",
            ) from error
        self.sleep(pause)


@dataclass
class Pace:
    """Raises TransientError `too_slow` when bytes come at less than `rate` a second on average.

    A read timeout doesn't notice a source that sends a byte now and then.
    """

    what: str
    rate: int  # 0: any
    clock: Clock = time.monotonic
    _since: float = field(init=False)
    _bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def add(self, count: int) -> None:
        self._bytes += count
        passed = self.clock() - self._since
        if passed > GRACE and self._bytes < self.rate * passed:
            raise TransientError(
                f"{self.what}: {self._bytes / passed:,.0f} bytes a second is too slow; "
                f"{self.rate:,} are the least (ONEBLOCK_READ_MIN_RATE)",
                code="too_slow",
            )
