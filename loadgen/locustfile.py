"""What Locust runs: one user for each journey, whose arrivals follow a schedule, and the end of the load.

The plan is the file that ``RESILIENCE_LOAD_PLAN`` names. Locust itself never ends the load: the conductor does when
`stop` is announced, and then keeps the metrics up until SIGINT or SIGTERM.
"""

import logging
import os
import signal
from pathlib import Path
from typing import Any, ClassVar, cast

import gevent
from gevent.event import Event
from locust import User, events, task
from locust.env import Environment
from prometheus_client import disable_created_metrics, start_http_server

from loadgen.conductor import Conductor
from loadgen.generator import EXIT_INTERRUPTED, EXIT_STOPPED, be_punctual, load_plan
from loadgen.recorder import Op
from resilience.history.record import Outcome

PLAN_VARIABLE = "RESILIENCE_LOAD_PLAN"


def conductor_of(environment: Environment) -> Conductor:
    """What this process's users share."""
    return cast("Conductor", cast("Any", environment).conductor)


class JourneyError(Exception):
    """An op that was not ok, as Locust's own statistics show it."""


class _Journey(User):
    """Base of the users: one of each, all arrivals of a journey in its task."""

    abstract = True
    fixed_count = 1

    def rest(self) -> None:
        """Waits until Locust ends the user: the load is over, the metrics are still to be scraped."""
        Event().wait()


class SessionArrivals(_Journey):
    """All session ops."""

    @task
    def arrive(self) -> None:
        """Sends them as they are due."""
        conductor_of(self.environment).arrive_sessions()
        self.rest()


class CollaborationArrivals(_Journey):
    """All members of all rooms, and their edits."""

    @task
    def arrive(self) -> None:
        """Joins, then edits as they are due."""
        conductor_of(self.environment).arrive_edits()
        self.rest()


class ContentArrivals(_Journey):
    """All authors and readers of articles, where the platform has the content service."""

    @task
    def arrive(self) -> None:
        """Sends their ops as they are due."""
        conductor_of(self.environment).arrive_content()
        self.rest()


class Bridge:
    """Tells Locust's own statistics of each op; the recorder's files are what is judged."""

    kinds: ClassVar[dict[str, str]] = {
        "session": "HTTP",
        "suggestion": "HTTP",
        "profile": "HTTP",
        "content": "HTTP",
        "collaboration": "WS",
    }

    def __init__(self, environment: Environment) -> None:
        """Listens to nobody yet."""
        self._fire: Any = environment.events.request.fire

    def __call__(self, op: Op, outcome: Outcome, latency_s: float, error: str) -> None:
        """An op ended."""
        self._fire(
            request_type=self.kinds[op.kind.partition(".")[0]],
            name=op.kind,
            response_time=latency_s * 1_000,
            response_length=0,
            exception=None if outcome == "ok" else JourneyError(f"{outcome} {error}"),
            context={},
        )


@events.init.add_listener  # type: ignore[untyped-decorator]
def open_files(environment: Environment, **_: Any) -> None:
    """Reads the plan, opens the files, serves the metrics."""
    be_punctual()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # their lines would be half of every scrape
    plan = load_plan(Path(os.environ[PLAN_VARIABLE]))
    conductor = Conductor(plan)
    conductor.generator.recorder.on_end = Bridge(environment)
    cast("Any", environment).conductor = conductor  # as Locust's users expect to find what they share
    environment.process_exit_code = EXIT_INTERRUPTED
    start_http_server(plan.metrics_port, registry=conductor.generator.metrics.registry)
    # As Ctrl-C arrives, Python raises in whichever greenlet runs; Locust's way with SIGTERM is orderly.
    gevent.signal_handler(signal.SIGINT, os.kill, os.getpid(), signal.SIGTERM)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def keep_time(environment: Environment, **_: Any) -> None:
    """Starts the greenlet that keeps the time."""

    def keep() -> None:
        conductor = conductor_of(environment)
        try:
            conductor.keep_time()
        except OSError as error:
            conductor.problem = error
        if conductor.problem is None:
            environment.process_exit_code = EXIT_STOPPED
            return
        logging.getLogger(__name__).error("the load generator failed: %r", conductor.problem)
        environment.process_exit_code = 1
        os.kill(os.getpid(), signal.SIGTERM)

    gevent.spawn(keep)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def finish(environment: Environment, **_: Any) -> None:
    """Books what is unfinished if the load was not stopped before."""
    conductor_of(environment).finish()
