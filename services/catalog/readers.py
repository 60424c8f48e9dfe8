"""The versions that are open: a bounded cache, and the one place where blocking reads leave."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from libs.warehouse import Reader, Warehouse
from services.catalog.rows import Ask, page

OPEN = 32  # versions kept open
THREADS = 4  # reads at once; Lance has threads of its own below
T = TypeVar("T")


class Readers:
    """Reads rows and logs off the event loop. A version never changes, so an opened one stays."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rows")
        self._open: OrderedDict[tuple[str, int], asyncio.Task[Reader]] = OrderedDict()

    async def page(self, dataset: str, version: int, ask: Ask) -> bytes:
        """JSON of a page; raises PermanentError `not_found` or `unknown_column`."""
        reader = await self._reader(dataset, version)
        return await self.run(lambda: page(reader, ask))

    @property
    def opened(self) -> int:
        """How many versions are open."""
        return len(self._open)

    def has(self, dataset: str, version: int) -> bool:
        """Whether the version was read already, so that there is no need to ask whether it is."""
        opening = self._open.get((dataset, version))
        if opening is None or not opening.done() or opening.cancelled():
            return False
        return opening.exception() is None

    async def run(self, work: Callable[[], T]) -> T:
        """Any other blocking read."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _reader(self, dataset: str, version: int) -> Reader:
        """Opened once, also when many ask at the same time."""
        key = (dataset, version)
        opening = self._open.get(key)
        if opening is None:
            work = self.run(lambda: self.warehouse.open(dataset, version))
            opening = self._open[key] = asyncio.ensure_future(work)
            while len(self._open) > OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        try:
            return await asyncio.shield(opening)
        except BaseException:
            if opening.done() and self._open.get(key) is opening:
                del self._open[key]  # an error isn't kept: the version may come back
            raise
