"""The local lane: the driver in this process, its tasks in warm worker processes beside it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from services.transform.driver import Output, Report, execute
from services.transform.engines import Engine, Stop
from services.transform.engines._child import Child
from services.transform.engines._pool import Pool
from services.transform.plan import Plan
from services.transform.settings import Settings


class Local:
    """Answers within milliseconds once its workers are warm (about 1.5 s after `start`)."""

    def __init__(self, workers: int, tries: int) -> None:
        self.workers = workers
        self.pool = Pool(workers, tries, lambda: Child("services.transform.engines._worker"))

    def start(self) -> None:
        self.pool.start()

    def run(self, plan: Plan, report: Report, stop: Stop) -> Output:
        limit = min(2 * self.workers, plan.parallelism or 2 * self.workers)

        def mapper(lines: Sequence[str]) -> Generator[tuple[int, str]]:
            return self.pool.map(lines, limit, stop)

        return execute(plan, mapper, report)

    def stop(self) -> None:
        self.pool.close()


def make(settings: Settings) -> Local:
    return Local(settings.transform_workers, settings.worker_tries)


PLUGIN: Callable[[Settings], Engine] = make
