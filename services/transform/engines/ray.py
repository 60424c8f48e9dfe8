"""Ray: the driver in a detached actor named after the run, its tasks all over the cluster.

The client connection lives in a process of its own (`_ray_link`), thrown away whenever it is in
doubt: Ray's client can hang, doesn't reconnect reliably, and takes memory the service doesn't have.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from libs.common.crashpoints import crash_point
from libs.common.errors import Cancelled, OneBlockError, PermanentError, TransientError
from services.transform.driver import Output, Report, raised
from services.transform.engines import Engine, Stop
from services.transform.engines._ray_link import Link, Lost
from services.transform.engines._ray_words import Call, Said, State, Terms
from services.transform.plan import Plan
from services.transform.settings import Settings

SOON, LATE = 0.05, 0.5  # seconds between looks: often at first
RETRY = 1.0  # seconds before another try to reach the cluster
ACTORS = 3  # that may die under one attempt


class Ray:
    """Runs outlive this object, its process, and the connection; they are found by their name."""

    def __init__(self, link: Link, patience: float, terms: Terms) -> None:
        self._link, self._patience, self._terms = link, patience, terms
        self._leaving = threading.Event()
        self.workers = 8  # until the cluster says
        self.reached = False

    def start(self) -> None:
        threading.Thread(target=self._reach, daemon=True).start()

    def run(self, plan: Plan, report: Report, stop: Stop) -> Output:
        """See `Engine.run`. TransientError `ray_unavailable` after `patience` without a cluster."""
        watch = _Watch(self._link, self._patience, plan, self._terms, stop)
        try:
            state = watch.follow(report)
        except Cancelled:
            watch.leave("cancel")
            raise
        watch.leave("end")
        if state.output is not None:
            return state.output
        assert state.trouble is not None  # done has an output, failed has trouble
        raise _as_stopped(raised(state.trouble), plan)

    def stop(self) -> None:
        self._leaving.set()
        self._link.close()

    def _reach(self) -> None:
        while not self._leaving.wait(RETRY):
            with contextlib.suppress(Lost):
                self.workers = max(1, self._link.ask(Call(do="connect")).cpus)
                self.reached = True
                return


class _Watch:
    """One attempt's view of its run's actor."""

    def __init__(self, link: Link, patience: float, plan: Plan, terms: Terms, stop: Stop) -> None:
        self._link, self._patience, self._plan, self._stop = link, patience, plan, stop
        self._begin = Call(
            do="begin",
            run=plan.run,
            plan=plan.model_dump_json(),
            terms=terms.model_dump_json(),
        )
        self._look = Call(do="look", run=plan.run)
        self._heard = time.monotonic()

    def follow(self, report: Report) -> State:
        """Until the run is done or failed; starts another actor when one is gone."""
        for _ in range(ACTORS):
            state = self._ask(self._begin).state
            crash_point("after_actor_start")
            pause = SOON
            while state is not None and state.state == "running":
                report(state.progress)
                self._stop.wait(pause)
                pause = min(LATE, pause * 1.5)
                state = self._ask(self._look).state
            if state is not None:
                report(state.progress)
                return state
        raise TransientError(f"the run's actor on Ray died {ACTORS} times", code="ray_actor_died")

    def leave(self, how: str) -> None:
        """Removes the actor, if the cluster can be reached; else it goes by itself."""
        with contextlib.suppress(Lost):
            self._link.ask(Call.model_validate({"do": how, "run": self._plan.run}))

    def _ask(self, call: Call) -> Said:
        while True:
            self._stop.check()
            try:
                said = self._link.ask(call)
            except Lost as lost:
                self._refuse_when_spent(lost)
                self._stop.wait(RETRY)
                continue
            self._heard = time.monotonic()
            return said

    def _refuse_when_spent(self, lost: Lost) -> None:
        if time.monotonic() - self._heard > self._patience:
            raise TransientError(
                f"no answer from the Ray cluster for {self._patience:.0f} s ({lost});"
                " check that it runs and that its token is right",
                code="ray_unavailable",
            ) from lost


def _as_stopped(error: Exception, plan: Plan) -> Exception:
    """A run that was cancelled in the cluster is a cancelled run here."""
    if isinstance(error, OneBlockError) and error.code == "cancelled":
        return Cancelled(plan.run)
    return error


def make(settings: Settings) -> Ray:
    """Raises PermanentError `engine_unavailable` when no cluster is configured."""
    if not settings.ray_address:
        raise PermanentError(
            "no Ray cluster is configured; set ONEBLOCK_RAY_ADDRESS, or use engine: local",
            code="engine_unavailable",
            path="spec.engine",
        )
    terms = Terms(
        deadline=settings.run_deadline, linger=settings.ray_linger, tries=settings.worker_tries
    )
    return Ray(Link(settings.ray_address, settings.token), settings.ray_patience, terms)


PLUGIN: Callable[[Settings], Engine] = make
