"""What runs inside the Ray cluster: a run's actor with its driver, and the tasks it spawns."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence

import ray
from ray.exceptions import OutOfMemoryError, RayError, TaskCancelledError

from libs.common.errors import Cancelled, OneBlockError, PermanentError, TransientError
from services.transform.driver import Done, execute
from services.transform.engines._ray_words import State, Terms
from services.transform.plan import Plan
from services.transform.tasks import Trouble

LOOK = 0.2  # seconds between looks at cancel and deadline


def work(line: str) -> str:
    """One task, in a worker process of the cluster."""
    from services.transform.work import answer, prepare

    prepare()
    return answer(line)


class RunActor:
    """Detached and named after its run; goes by itself when nobody asks for the result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: State | None = None
        self._cancelled = threading.Event()
        self._asked = time.monotonic()

    def begin(self, plan: str, terms: str) -> str:
        """Starts the run, once; tells the state of what this actor runs, whatever was asked."""
        with self._lock:
            if self._state is None:
                asked, how = Plan.model_validate_json(plan), Terms.model_validate_json(terms)
                self._state = State(state="running", fingerprint=asked.fingerprint())
                threading.Thread(target=self._run, args=(asked, how), daemon=True).start()
        return self.state()

    def state(self) -> str:
        """How far the run is, or what came of it."""
        self._asked = time.monotonic()
        assert self._state is not None  # begin comes first
        return self._state.model_dump_json()

    def cancel(self) -> None:
        """Tasks are killed; the state becomes failed."""
        self._cancelled.set()

    def _run(self, plan: Plan, terms: Terms) -> None:
        try:
            output = execute(plan, _Mapper(plan, terms, self._cancelled), self._report)
            self._become(state="done", output=output)
        except OneBlockError as error:
            self._become(state="failed", trouble=Trouble.of(error))
        except Exception:
            trouble = Trouble(kind="bug", detail=traceback.format_exc(limit=20))
            self._become(state="failed", trouble=trouble)
        self._leave_when_forgotten(terms.linger)

    def _report(self, done: Done) -> None:
        self._become(progress=done)

    def _become(self, **changes: object) -> None:
        assert self._state is not None
        self._state = self._state.model_copy(update=changes)

    def _leave_when_forgotten(self, linger: float) -> None:
        finished = time.monotonic()
        while time.monotonic() - max(finished, self._asked) < linger:
            time.sleep(min(1.0, linger / 4))
        ray.kill(ray.get_runtime_context().current_actor)


class _Mapper:
    """Plain Ray tasks, bounded in flight; a task's worker that dies is replaced by Ray."""

    def __init__(self, plan: Plan, terms: Terms, cancelled: threading.Event) -> None:
        self._plan, self._cancelled, self._tries = plan, cancelled, terms.tries
        self._until = time.monotonic() + terms.deadline
        cpus = int(ray.cluster_resources().get("CPU", 1))
        self._limit = min(2 * cpus, plan.parallelism or 2 * cpus)
        self._task = ray.remote(work).options(
            num_cpus=1,
            max_retries=terms.tries - 1,
            scheduling_strategy="SPREAD" if plan.spread else "DEFAULT",
            name=f"{plan.run} task",
        )

    def __call__(self, lines: Sequence[str]) -> Generator[tuple[int, str]]:
        waiting = iter(enumerate(lines))
        pending: dict[ray.ObjectRef, int] = {}
        try:
            while self._fill(pending, waiting):
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=LOOK)
                self._check()
                for reference in ready:
                    yield pending.pop(reference), self._get(reference)
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)

    def _fill(self, pending: dict[ray.ObjectRef, int], waiting: Iterator[tuple[int, str]]) -> bool:
        while len(pending) < self._limit and (found := next(waiting, None)) is not None:
            pending[self._task.remote(found[1])] = found[0]
        return bool(pending)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled(self._plan.run)
        if time.monotonic() > self._until:
            raise PermanentError("the run took longer than its deadline", code="deadline")

    def _get(self, reference: ray.ObjectRef) -> str:
        try:
            answer: str = ray.get(reference)
            return answer
        except TaskCancelledError as error:
            raise Cancelled(self._plan.run) from error
        except OutOfMemoryError as error:
            raise TransientError("a task ran out of memory on Ray", code="oom") from error
        except RayError as error:
            raise TransientError(
                f"a worker process on Ray died {self._tries} times over the same task: "
                f"{str(error).splitlines()[0]}",
                code="worker_died",
            ) from error
