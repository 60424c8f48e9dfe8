"""A service process to be killed, stopped and hung: `python -m tests.busworker URL WHAT FILE`.

Appends a line to FILE for everything that happens in it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

from libs.common.bus import Bus, Delivery, RunEnded
from libs.common.errors import LeaseLost
from libs.common.events import Fact, RunChanged
from libs.common.settings import CommonSettings


async def main(url: str, what: str, file: Path) -> None:
    def note(line: str) -> None:
        with file.open("a") as out:
            out.write(line + "\n")

    settings = CommonSettings.model_validate(
        {"nats_url": url, "stop_timeout": 1.0, "lease_ttl": 2.0}
    )
    bus = Bus(settings, "worker", hang_limit=2.0)

    async def handle(fact: Fact, delivery: Delivery) -> None:
        run = getattr(fact, "run", "")
        note(f"took {run} {delivery.deliveries}")
        if what == "lease":
            await work_under_lease(run)
        await bus.publish(RunChanged(run=run, dataset="default/cars", state="running"))
        note(f"did {run}")

    async def work_under_lease(run: str) -> None:
        try:
            async with await bus.runs.lease(run, bus.instance) as lease:
                note(f"leased {run} {lease.attempt}")
                await asyncio.sleep(1.0)
                await lease.check()
                note(f"committed {run} {lease.attempt}")
        except (LeaseLost, RunEnded) as error:
            note(type(error).__name__)
            raise

    bus.subscribe("transform-sources", handle)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await bus.start()
    note("ready")
    if what == "hang":
        time.sleep(60)  # noqa: ASYNC251
    if what == "close":
        await bus.broker.connection.close()
    await stop.wait()
    await bus.stop()
    note("stopped")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
