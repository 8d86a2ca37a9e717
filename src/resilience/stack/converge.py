"""Waits, after healing, until the stack is whole again and everybody agrees on it."""

import time
from typing import NamedTuple

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.stack.postgresql import Gathering
from resilience.stack.prometheus import STARTED_LATER
from resilience.stack.rabbitmq import incomplete
from resilience.stack.redis_cluster import shortened
from resilience.stack.redis_link import RedisLinks
from resilience.stack.redis_survey import diverged, survey, written_before
from resilience.stack.service import service_states, unhealthy
from resilience.stack.wait import wait_until

POLL_S = 0.1


class Converged(NamedTuple):
    """The end of the waiting; ``reason`` says what was still amiss if not ``ok``."""

    ok: bool
    took_s: float
    reason: str


def wait_converged(platform: Platform, deadline: float) -> Converged:
    """Waits until nothing is amiss (`amiss`), at most until ``deadline`` (a value of `time.monotonic`).

    Not to converge is the platform's doing, so it is an answer and no error. Replicas have caught up when they have
    what their primary had written by the first look.
    """
    began = time.monotonic()
    with RedisLinks(platform) as links, Gathering(platform) as gathering:
        look = Look(platform, links, gathering)
        try:
            wait_until("convergence", lambda: shortened(look.amiss()), deadline=deadline, every_s=POLL_S)
        except StackError as error:
            return Converged(ok=False, took_s=time.monotonic() - began, reason=str(error))
    return Converged(ok=True, took_s=time.monotonic() - began, reason="")


class Look:
    """Looks at everything, again and again."""

    def __init__(self, platform: Platform, links: RedisLinks, gathering: Gathering) -> None:
        """Asks nobody yet."""
        self._gathering = gathering
        self._platform = platform
        self._links = links
        self._written: dict[str, int] = {}

    def amiss(self) -> list[str]:
        """What keeps the stack from being whole now: members that do not run, else the stores, else the services."""
        return self._stopped() or self._redis() or self._gathering.amiss() or self._rabbitmq() or self._services()

    def _rabbitmq(self) -> list[str]:
        return [] if self._platform.stack.rabbitmq is None else incomplete(self._platform)

    def _stopped(self) -> list[str]:
        return [
            f"{state.name} does not run" + (f", held by {', '.join(state.held_by)}" if state.held_by else "")
            for state in self._platform.states()
            if not state.running and state.component not in STARTED_LATER
        ]

    def _redis(self) -> list[str]:
        surveys = survey(self._links)
        self._written = written_before(self._written, surveys)
        return diverged(self._platform.stack, self._links.hosts, surveys, self._written)

    def _services(self) -> list[str]:
        return [reason for state in service_states(self._platform) if (reason := unhealthy(state))]
