"""Waits, after healing, until the stack is whole again and everybody agrees on it."""

import time
from typing import NamedTuple

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.stack.prometheus import STARTED_LATER
from resilience.stack.redis_cluster import shortened
from resilience.stack.redis_link import RedisLinks
from resilience.stack.redis_survey import diverged, survey
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

    Not to converge is the platform's doing, so it is an answer and no error. The load must have stopped: replicas
    have caught up only when nobody writes.
    """
    began = time.monotonic()
    with RedisLinks(platform) as links:
        try:
            wait_until("convergence", lambda: shortened(amiss(platform, links)), deadline=deadline, every_s=POLL_S)
        except StackError as error:
            return Converged(ok=False, took_s=time.monotonic() - began, reason=str(error))
    return Converged(ok=True, took_s=time.monotonic() - began, reason="")


def amiss(platform: Platform, links: RedisLinks) -> list[str]:
    """What keeps the stack from being whole now: members that do not run, Redis (`diverged`), services unhealthy."""
    stopped = [
        f"{state.name} does not run" + (f", held by {', '.join(state.held_by)}" if state.held_by else "")
        for state in platform.states()
        if not state.running and state.component not in STARTED_LATER
    ]
    if stopped:
        return stopped
    redis = diverged(platform.stack, links.hosts, survey(links))
    return redis or [reason for state in service_states(platform) if (reason := unhealthy(state))]
