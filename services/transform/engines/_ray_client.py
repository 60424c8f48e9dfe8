"""The process that holds a Ray client connection: disposable, since such connections are.

One line in, one line out (see `Call` and `Said`). When anything is odd, the parent kills it and
starts another; runs live on in their actors and are found again by name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from services.transform.engines._child import serve
from services.transform.engines._ray_actor import RunActor, work
from services.transform.engines._ray_words import ADDRESS, NAMESPACE, Call, Said, State
from services.transform.plan import Plan, Recipe
from services.transform.tasks import Survey

ACTOR_STARTS = 40.0  # seconds that creating an actor and its first answer may take
ANSWERS = 15.0  # below what the service gives a look
WARMING: list[ray.ObjectRef] = []  # a task whose result nobody holds may be dropped


def answer(line: str) -> str:
    """Does one call; connects before the first. Never raises."""
    call = Call.model_validate_json(line)
    try:
        if not ray.is_initialized():
            ray.init(os.environ[ADDRESS], namespace=NAMESPACE, log_to_driver=False)
        said = CALLS[call.do](call)
    except (RayActorError, ValueError) as error:
        said = Said(trouble="gone", detail=_first_line(error))
    except Exception as error:
        said = Said(trouble="lost", detail=_first_line(error))
    return said.model_dump_json()


def connect(call: Call) -> Said:  # noqa: ARG001
    """How big the cluster is; has its workers load what tasks need, without waiting for it."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    task = ray.remote(work).options(num_cpus=1)
    WARMING[:] = [task.remote(_nothing()) for _ in range(min(cpus, 16))]
    return Said(cpus=cpus)


def begin(call: Call) -> Said:
    """Starts the run's actor, or finds the one that already works on this very run."""
    until = time.monotonic() + ACTOR_STARTS
    wanted = Plan.model_validate_json(call.plan).fingerprint()
    while True:
        state = _begin(call)
        if state is not None and state.fingerprint == wanted:
            return Said(state=state)
        if state is not None:
            ray.kill(ray.get_actor(call.run, NAMESPACE))  # works on what no longer is asked
        if time.monotonic() > until:
            return Said(trouble="gone", detail="the actor didn't start")
        time.sleep(0.2)


def _begin(call: Call) -> State | None:
    actor = (
        ray.remote(RunActor)
        .options(
            name=call.run,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_concurrency=4,
            max_restarts=0,
        )
        .remote()
    )
    try:
        said = ray.get(actor.begin.remote(call.plan, call.terms), timeout=ACTOR_STARTS)
        return State.model_validate_json(said)
    except RayActorError:  # one that was just dying
        return None


def look(call: Call) -> Said:
    actor = ray.get_actor(call.run, NAMESPACE)
    return Said(state=State.model_validate_json(ray.get(actor.state.remote(), timeout=ANSWERS)))


def cancel(call: Call) -> Said:
    """Its tasks first, then the actor itself."""
    actor = ray.get_actor(call.run, NAMESPACE)
    try:
        ray.get(actor.cancel.remote(), timeout=2.0)
        time.sleep(0.5)  # the mapper looks five times a second
    except GetTimeoutError:
        pass
    ray.kill(actor)
    return Said()


def end(call: Call) -> Said:
    ray.kill(ray.get_actor(call.run, NAMESPACE))
    return Said()


CALLS: dict[str, Callable[[Call], Said]] = {
    "connect": connect,
    "begin": begin,
    "look": look,
    "cancel": cancel,
    "end": end,
}


def _nothing() -> str:
    recipe = Recipe(target="", stage="", format="csv", split=1, head=1)
    return Survey(recipe=recipe, files=()).model_dump_json()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


if __name__ == "__main__":
    serve(answer)
