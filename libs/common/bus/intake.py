"""Between FastStream's pull loop and the driver: paces it in trouble, lets go of it at stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from faststream.nats import NatsBroker
from faststream.nats.subscriber.usecases import PullStreamSubscriber
from nats import errors as nats_errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import ServiceUnavailableError

PAUSE = 0.5  # seconds


class Intake:
    """Stands in for a pull subscription.

    FastStream's loop asks again at once when the server has no answer, and without ever yielding
    when the connection is closed, which hangs the process: here each such answer costs a pause.
    And what arrives after the stop goes back at once, rather than being dropped until its ack wait
    is over.
    """

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription
        self._closed = False
        self._again = asyncio.Event()

    @classmethod
    def before(cls, broker: NatsBroker) -> list[Intake]:
        """One for each pull subscriber of a started broker."""
        intakes = []
        for subscriber in broker.subscribers:
            if isinstance(subscriber, PullStreamSubscriber) and subscriber.subscription:
                intake = cls(subscriber.subscription)
                subscriber.subscription = intake  # type: ignore[assignment]
                intakes.append(intake)
        return intakes

    async def fetch(self, batch: int = 1, timeout: float | None = 5.0) -> list[Msg]:
        """As the driver's; TimeoutError when nothing came."""
        if self._closed:
            await asyncio.sleep(PAUSE)
            raise nats_errors.TimeoutError
        try:
            messages = await self._ask(batch, timeout)
        except (nats_errors.ConnectionClosedError, ServiceUnavailableError):
            await asyncio.sleep(PAUSE)
            raise
        return await self._handed_back(messages) if self._closed else messages

    def ask_again(self) -> None:
        """What was asked went down with the old connection: ask on the new one, at once."""
        self._again.set()
        self._again = asyncio.Event()

    async def _ask(self, batch: int, timeout: float | None) -> list[Msg]:
        asking = asyncio.ensure_future(self._subscription.fetch(batch=batch, timeout=timeout))
        again = asyncio.ensure_future(self._again.wait())
        try:
            await asyncio.wait({asking, again}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            again.cancel()
            asking.cancel()
            await asyncio.wait({asking})
        if asking.cancelled():
            raise nats_errors.TimeoutError
        return asking.result()

    async def close(self) -> None:
        """Take no more."""
        self._closed = True
        with suppress(nats_errors.Error):
            await self._subscription.unsubscribe()

    async def unsubscribe(self) -> None:
        """What FastStream calls when it stops; we did it before."""
        if not self._closed:
            await self.close()

    async def _handed_back(self, messages: list[Msg]) -> list[Msg]:
        for message in messages:
            with suppress(nats_errors.Error):
                await message.nak()
        return []
