"""A pool of warm worker processes; one that dies is replaced, its task is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from libs.common.errors import TransientError
from services.transform.engines import Stop
from services.transform.engines._child import Child, ChildDied

LOOK = 0.2  # seconds between looks at whether the run is to be left


@dataclass
class Job:
    """One call of the mapper: its tasks share a fate."""

    results: SimpleQueue[tuple[int, str | None]] = field(default_factory=SimpleQueue)
    dropped: bool = False


@dataclass
class Entry:
    job: Job
    at: int
    line: str
    tries: int = 0


class Pool:
    """`workers` threads, each with one child process; tasks are taken in the order asked."""

    def __init__(self, workers: int, tries: int, make: Callable[[], Child]) -> None:
        self._tries, self._make = tries, make
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._children: list[Child | None] = [None] * workers
        self._busy: list[Entry | None] = [None] * workers
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(workers)
        ]

    def start(self) -> None:
        """Starts the processes in the background; tasks may come at once and wait for them."""
        for thread in self._threads:
            thread.start()

    def pids(self) -> list[int]:
        """Of the processes that live now."""
        with self._lock:
            return [c.pid for c in self._children if c is not None and c.alive()]

    def map(self, lines: Sequence[str], limit: int, stop: Stop) -> Generator[tuple[int, str]]:
        """Answers as they come, at most `limit` tasks in the pool at a time.

        Raises what `stop` says, and TransientError `worker_died` for a task that kept killing its
        worker. However it is left, the rest of its tasks is dropped and their workers are killed.
        """
        job, waiting = Job(), iter(enumerate(lines))
        left = len(lines)
        try:
            for at, line in _first(waiting, limit):
                self._queue.put(Entry(job, at, line))
            while left:
                found = self._next(job, stop)
                left -= 1
                for at, line in _first(waiting, 1):
                    self._queue.put(Entry(job, at, line))
                yield found
        finally:
            self._drop(job)

    def close(self) -> None:
        """Kills the processes and ends the threads."""
        with self._lock:
            self._closed = True
            children = [c for c in self._children if c is not None]
        for child in children:
            child.kill()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5)

    def _next(self, job: Job, stop: Stop) -> tuple[int, str]:
        while True:
            stop.check()
            try:
                at, answer = job.results.get(timeout=LOOK)
            except Empty:
                continue
            if answer is None:
                raise TransientError(
                    f"a worker process died {self._tries} times over the same task"
                    " (out of memory?)",
                    code="worker_died",
                )
            return at, answer

    def _drop(self, job: Job) -> None:
        with self._lock:
            job.dropped = True
            for entry, child in zip(self._busy, self._children, strict=True):
                if entry is not None and entry.job is job and child is not None:
                    child.kill()

    def _serve(self, number: int) -> None:
        child = self._renew(number)
        while not self._closed and (entry := self._queue.get()) is not None:
            if child is None or child.doomed or not child.alive():
                child = self._renew(number)
            if child is not None and self._take(number, entry):
                self._work(child, entry)
                with self._lock:
                    self._busy[number] = None
        if child is not None:
            child.close()

    def _take(self, number: int, entry: Entry) -> bool:
        with self._lock:
            if entry.job.dropped:
                return False
            self._busy[number] = entry
            return True

    def _work(self, child: Child, entry: Entry) -> None:
        try:
            entry.job.results.put((entry.at, child.ask(entry.line)))
        except ChildDied:
            entry.tries += 1
            if entry.tries < self._tries:
                self._queue.put(entry)
            else:
                entry.job.results.put((entry.at, None))

    def _renew(self, number: int) -> Child | None:
        old = self._children[number]
        if old is not None:
            old.close()
        with self._lock:
            child = None if self._closed else self._make()
            self._children[number] = child
        return child


def _first(waiting: Iterator[tuple[int, str]], count: int) -> Iterator[tuple[int, str]]:
    for _ in range(count):
        found = next(waiting, None)
        if found is None:
            return
        yield found
