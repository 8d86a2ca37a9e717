"""Waits, after healing, until the stack is whole again and everybody agrees on it."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.queues import QueuesSeen, amiss, unknown
from resilience.stack.postgresql import Gathering
from resilience.stack.prometheus import STARTED_LATER
from resilience.stack.rabbitmq import COUNTED_WITHIN_S, queues_seen
from resilience.stack.rabbitmq import survey as survey_queues
from resilience.stack.rabbitmq_view import unready
from resilience.stack.redis_cluster import shortened
from resilience.stack.redis_link import RedisLinks
from resilience.stack.redis_survey import diverged, survey, written_before
from resilience.stack.service import service_states, unhealthy
from resilience.stack.wait import wait_until

POLL_S = 0.1
SILENT_LOOKS = 3


class Converged(NamedTuple):
    """The end of the waiting; ``reason`` says what was still amiss if not ``ok``.

    ``queues``: what RabbitMQ's members said last; None if it is not there. ``queues_took_s``: since when it was whole,
    in seconds from the beginning; None if it is not.
    """

    ok: bool
    took_s: float
    reason: str
    queues_took_s: float | None = None
    queues: QueuesSeen | None = None


def wait_converged(platform: Platform, deadline: float, quiet_since: float | None = None) -> Converged:
    """Waits until nothing is amiss (`amiss`), at most until ``deadline`` (a value of `time.monotonic`).

    ``quiet_since`` is when nobody used or broke the stack any more, None: not before now.
    Not to converge is the platform's doing, so it is an answer and no error. Replicas have caught up when they have
    what their primary had written by the first look.
    """
    began = time.monotonic()
    with RedisLinks(platform) as links, Gathering(platform) as gathering:
        look = Look(platform, links, gathering, quiet_since)
        try:
            wait_until("convergence", lambda: shortened(look.amiss()), deadline=deadline, every_s=POLL_S)
        except StackError as error:
            ok, reason = False, str(error)
        else:
            ok, reason = True, ""
    queues = look.queues
    return Converged(ok=ok, took_s=_since(began), reason=reason, queues_took_s=queues.whole_s, queues=queues.last)


def _since(began: float) -> float:
    return time.monotonic() - began


class Look:
    """Looks at everything, again and again."""

    def __init__(
        self, platform: Platform, links: RedisLinks, gathering: Gathering, quiet_since: float | None = None
    ) -> None:
        """Asks nobody yet."""
        self._gathering = gathering
        self._platform = platform
        self._links = links
        self._written: dict[str, int] = {}
        self.queues = QueuesLook(platform, quiet_since)

    def amiss(self) -> list[str]:
        """What keeps the stack from being whole now: members that do not run, else the stores, else the services.

        RabbitMQ is looked at each time, since it is told by itself how long it took.
        """
        queues = self.queues.amiss()
        return self._stopped() or self._redis() or self._gathering.amiss() or queues or self._services()

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


class QueuesLook:
    """Looks at RabbitMQ, again and again, and knows since when it is whole.

    An answer that is missing, a member's or that with the counts, may be a slow one: what was seen before stands until
    the third look in a row that lacks one.
    """

    def __init__(
        self, platform: Platform, quiet_since: float | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Asks nobody yet. ``quiet_since``: see `wait_converged`."""
        self.whole_s: float | None = None  # from the beginning to the first of the last looks that found nothing amiss
        self.last: QueuesSeen | None = None  # the last look that says something
        self._platform = platform
        self._now = now
        self._began = now()
        self._quiet_since = self._began if quiet_since is None else quiet_since
        self._silent = 0  # looks in a row in which an answer was missing

    def amiss(self) -> list[str]:
        """What keeps it from being whole; nothing where there is no RabbitMQ."""
        if self._platform.stack.rabbitmq is None:
            return []
        views = survey_queues(self._platform)
        return self.heard(queues_seen(self._platform, views), unready(self._platform.stack, views))

    def heard(self, seen: QueuesSeen, reasons: Sequence[str]) -> list[str]:
        """The reasons, and what else is amiss in what was seen; until counts are younger than the quiet, that."""
        found = list(dict.fromkeys((*reasons, *amiss(seen), *unknown(seen))))
        after_s = self._now() - self._began
        silent = any(said.error for said in seen.members.values()) or not seen.unacknowledged
        self._silent = self._silent + 1 if silent else 0
        if self.last is not None and 0 < self._silent < SILENT_LOOKS:
            return found
        self.last = seen
        if found:
            self.whole_s = None
            return found
        self.whole_s = after_s if self.whole_s is None else self.whole_s
        return (
            []
            if self._now() - self._quiet_since >= COUNTED_WITHIN_S
            else ["RabbitMQ's counts of messages may be older than the end of the load"]
        )
