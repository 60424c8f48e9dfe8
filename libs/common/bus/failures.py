"""How often each message's handler failed in this process."""

from __future__ import annotations

from collections import OrderedDict

from nats.aio.msg import Msg

from libs.common.bus.delivery import Outcome

REMEMBERED = 50_000  # messages


class Failures:
    """Counts failures, not deliveries: a message also comes again because a process died."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str, int], int] = OrderedDict()

    def count(self, message: Msg, outcome: Outcome) -> int:
        """Failed tries, this one included if it failed; at least 1."""
        key = _key(message)
        if outcome in ("transient", "bug"):
            self._counts[key] = self._counts.pop(key, 0) + 1
            if len(self._counts) > REMEMBERED:
                self._counts.popitem(last=False)
        return max(1, self._counts.get(key, 0))

    def forget(self, message: Msg) -> None:
        """It is settled for good."""
        self._counts.pop(_key(message), None)


def _key(message: Msg) -> tuple[str, str, int]:
    meta = message.metadata
    return meta.stream, meta.consumer, meta.sequence.stream
