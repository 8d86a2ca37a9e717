"""The conductor of Locust's side: starts arrivals, keeps the time, and brings the load to its end.

::

    run ──(stop announced)──▶ no arrivals ──▶ drain, deliveries ──▶ book, flush, summary ──▶ serve /metrics
     └──(SIGINT, SIGTERM)───────────────────────────────────────▶ book, flush, summary ──▶ exit
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.pool import Pool

from loadgen.arrivals import Schedule, share_of
from loadgen.generator import EXIT_INTERRUPTED, EXIT_STOPPED, TICK_S, Generator
from loadgen.http_client import EdgeClient
from loadgen.shards import ShardMap
from loadgen.users.collaboration import OPS as COLLABORATION_OPS
from loadgen.users.collaboration import CollaborationUsers
from loadgen.users.content import LIVE_S as ARTICLES_LIVE_S
from loadgen.users.content import OPS as CONTENT_OPS
from loadgen.users.content import ContentUsers
from loadgen.users.library import Library
from loadgen.users.personalization import OPS as PERSONALIZATION_OPS
from loadgen.users.personalization import STREAM, People, PersonalizationUsers
from loadgen.users.population import Population
from loadgen.users.session import LIVE_S, SessionUsers
from loadgen.users.session import OPS as SESSION_OPS
from resilience.spec.load import numbered
from resilience.spec.plan import LoadPlan

CLIENT = "locust"  # the first of several; see `spec.load.numbered`
ALL_JOINED_S = 5.0  # edits begin when everybody has joined, or after so long
POOL_SHARE = 2.0  # places for ops on their way, as a multiple of what a silent platform fills
POOL_MIN = 32
_NAP_S = 0.5  # the longest sleep of an arrival loop, so that the end is never missed
_LAST_DELIVERIES_S = 2.0


class Conductor:
    """Everything that runs in Locust's process, apart from Locust."""

    def __init__(self, plan: LoadPlan) -> None:
        """Opens the generator's files; nothing is sent. Raises `OSError`."""
        name = numbered(CLIENT, plan.part.index)
        rate = plan.personalization_rate_ops_per_s
        self._content_rate = plan.content_rate_ops_per_s or 0.0
        more = (*(() if rate is None else PERSONALIZATION_OPS), *(CONTENT_OPS if self._content_rate else ()))
        self.generator = Generator(name, plan, (*SESSION_OPS, *COLLABORATION_OPS, *more))
        self.problem: BaseException | None = None
        self._plan = plan
        load, shards = plan.load, ShardMap(plan.shards)
        live = round(load.session_rate_ops_per_s / plan.part.of * LIVE_S)
        people = People(plan.part.mark, plan.seed)
        seed, edges = numbered(str(plan.seed), plan.part.index), EdgeClient(plan.edges, load.timeout_s)
        population = Population(shards, live, seed, *(() if rate is None else (people.of,)))
        self._sessions = SessionUsers(self.generator, edges, population, people.created)
        self._people = people
        self._personalization = None if rate is None else PersonalizationUsers(self.generator, edges, people)
        self._personalization_ops = self._pool(rate or 0.0)
        library = Library(round(self._content_rate / plan.part.of * ARTICLES_LIVE_S), seed)
        self._content = ContentUsers(self.generator, edges, library)
        self._collaboration = CollaborationUsers(self.generator, shards)
        self._session_ops = self._pool(load.session_rate_ops_per_s)
        self._edit_ops = self._pool(load.edit_rate_ops_per_s)
        self._content_ops = self._pool(self._content_rate)
        self._members = Pool()

    def _pool(self, rate_ops_per_s: float) -> Pool:
        own_rate = rate_ops_per_s / self._plan.part.of
        return Pool(max(POOL_MIN, int(own_rate * self._plan.load.timeout_s * POOL_SHARE)))

    def arrive_sessions(self) -> None:
        """Sends session ops as they are due, and what people ask for by their sessions beside them, where the stack has
        that; returns when the load is over.
        """
        if self._personalization is not None:
            self._spawn(self._members, self._arrive_suggestions, self._personalization)
        self._arrive("session", self._plan.load.session_rate_ops_per_s, self._session_ops, self._sessions.act)

    def _arrive_suggestions(self, users: PersonalizationUsers) -> None:
        while not self._people.any_known and not self.generator.over:
            gevent.sleep(TICK_S)
        rate = self._plan.personalization_rate_ops_per_s
        assert rate is not None  # else nobody is there
        self._arrive(STREAM, rate, self._personalization_ops, users.act)

    def arrive_content(self) -> None:
        """Sends ops on articles as they are due, if there are any; returns when the load is over."""
        if self._content_rate:
            self._arrive("content", self._content_rate, self._content_ops, self._content.act)

    def arrive_edits(self) -> None:
        """Lets everybody join, then sends edits as they are due; returns when the load is over."""
        for member in self._collaboration.members:
            self._spawn(self._members, member.live)
        deadline = time.monotonic() + ALL_JOINED_S
        while self._collaboration.connected < len(self._collaboration.members) and time.monotonic() < deadline:
            gevent.sleep(TICK_S)
        rate = self._plan.load.edit_rate_ops_per_s
        self._arrive("collaboration.edit", rate, self._edit_ops, self._collaboration.act)

    def keep_time(self) -> None:
        """Flushes, looks at the phases and writes the stats, until the load is over; then ends it."""
        second_at = time.monotonic() + 1.0
        while not self.generator.over and self.problem is None:
            second_at = self._tick(second_at)
        self._drain(second_at)
        self.finish(EXIT_STOPPED if self.problem is None else 1)

    def finish(self, exit_code: int = EXIT_INTERRUPTED) -> None:
        """Cuts off what is on its way, and writes the summary; a second call does nothing."""
        for pool in (self._session_ops, self._edit_ops, self._personalization_ops, self._content_ops, self._members):
            pool.kill(block=True, timeout=1.0)
        for member in self._collaboration.members:
            member.leave()
        self.generator.finish(exit_code)

    def _tick(self, second_at: float) -> float:
        gevent.sleep(TICK_S)
        self.generator.tick()
        if time.monotonic() < second_at:
            return second_at
        self.generator.second(self._collaboration.connected)
        return second_at + 1.0

    def _drain(self, second_at: float) -> None:
        """Waits for what is on its way, at most as long as the plan says, then for the last deliveries."""
        deadline = time.monotonic() + self._plan.load.stop_timeout_s
        while self._under_way() and time.monotonic() < deadline:
            second_at = self._tick(second_at)

    def _under_way(self) -> bool:
        deliveries = self._collaboration.deliveries
        return self.generator.recorder.inflight > 0 or deliveries.outstanding(self.generator.clock.now_us()) > 0

    def _arrive(self, what: str, rate_ops_per_s: float, pool: Pool, act: Callable[[int], None]) -> None:
        generator = self.generator
        for due in self.dues(rate_ops_per_s):
            self._sleep_until(due)
            if generator.over_at(due) or generator.over:
                return
            if pool.full():
                generator.recorder.dropped(what, generator.phase_at(due), due)
            else:
                self._spawn(pool, act, due)

    def dues(self, rate_ops_per_s: float) -> Iterator[int]:
        """The instants from now on at which an op of this process is due, of a rate that all of them make together."""
        part, now_us = self._plan.part, self.generator.clock.now_us()
        start_us = now_us if part.begins_us is None else part.begins_us
        schedule = Schedule(rate_ops_per_s=rate_ops_per_s, start_us=start_us, seed=self._plan.seed)
        return share_of(schedule, part, now_us)

    def _sleep_until(self, due: int) -> None:
        while (left_us := due - self.generator.clock.now_us()) > 0 and not self.generator.over:
            gevent.sleep(min(_NAP_S, left_us / 1e6))

    def _spawn(self, pool: Pool, act: Callable[..., None], *args: Any) -> None:
        """Runs an op on its own; what it raises is a mistake of ours and ends the generator."""
        pool.spawn(act, *args).link_exception(self._failed)

    def _failed(self, greenlet: gevent.Greenlet) -> None:
        self.problem = self.problem or greenlet.exception
