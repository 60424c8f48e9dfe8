"""What happens, told to everybody who listens; who is too slow is cut off and may resume."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from libs.common.errors import TransientError

KEPT = 2000  # facts that can be resumed from
WAITING = 512  # messages that may wait for one listener
LISTENERS = 500


@dataclass(frozen=True)
class Message:
    """Something to tell. Facts have a number; progress has none, because it isn't repeated."""

    dataset: str
    run: str
    data: bytes  # one line of JSON
    event: str = "progress"
    number: int | None = None

    @property
    def namespace(self) -> str:
        return self.dataset.partition("/")[0]


Wanted = Callable[[Message], bool]


@dataclass(eq=False)
class Listener:
    """One connection's queue."""

    wanted: Wanted
    waiting: deque[Message] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    overrun: bool = False
    closed: bool = False

    def close(self) -> None:
        self.closed = True
        self.woken.set()

    def offer(self, message: Message) -> None:
        """Progress is dropped for who is slow; a fact isn't: the connection ends instead."""
        if self.overrun or not self.wanted(message):
            return
        if len(self.waiting) < WAITING:
            self.waiting.append(message)
        elif message.number is not None:
            self.overrun = True
        self.woken.set()

    async def messages(self, patience: float) -> AsyncIterator[Message | None]:
        """Each message; None after `patience` seconds of silence. Ends when overrun or closed."""
        while True:
            while self.waiting:
                yield self.waiting.popleft()
            if self.overrun or self.closed:
                return
            self.woken.clear()
            try:
                async with asyncio.timeout(patience):
                    await self.woken.wait()
            except TimeoutError:
                yield None


class Hub:
    """Numbers facts as they become durable here; `epoch` tells this process's numbers apart."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self.closed = False
        self._number = 0
        self._kept: deque[Message] = deque(maxlen=KEPT)
        self._listeners: set[Listener] = set()

    def tell_fact(self, dataset: str, run: str, data: bytes) -> None:
        self._number += 1
        message = Message(dataset, run, data, "fact", self._number)
        self._kept.append(message)
        self._offer(message)

    def tell_progress(self, dataset: str, run: str, data: bytes) -> None:
        self._offer(Message(dataset, run, data))

    def check_room(self) -> None:
        """Raises TransientError `too_many_listeners`."""
        if len(self._listeners) >= LISTENERS:
            raise TransientError(
                f"{LISTENERS} event streams are open already", code="too_many_listeners"
            )

    def close(self) -> None:
        """Ends every stream, so that a stop doesn't wait for them."""
        self.closed = True
        for listener in self._listeners:
            listener.close()

    @contextmanager
    def listen(self, wanted: Wanted) -> Iterator[Listener]:
        listener = Listener(wanted)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def since(self, last_id: str) -> list[Message] | None:
        """The facts after the one with this id; None when they aren't all known any more."""
        epoch, _, number = last_id.partition("-")
        if epoch != self.epoch or not number.isdigit() or int(number) > self._number:
            return None
        first = self._kept[0].number if self._kept else None
        if first is not None and int(number) + 1 < first:
            return None
        return [m for m in self._kept if m.number is not None and m.number > int(number)]

    def id_of(self, message: Message) -> str | None:
        return None if message.number is None else f"{self.epoch}-{message.number}"

    def _offer(self, message: Message) -> None:
        for listener in self._listeners:
            listener.offer(message)
