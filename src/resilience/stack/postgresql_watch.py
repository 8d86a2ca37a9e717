"""Watches the PostgreSQL members' roles while a run goes on, each by a thread of its own.

A member that is silent delays nobody else's news. A member says itself whether it takes writes and on which timeline;
one that takes writes while another does on a higher timeline is stray, whether it knows or not.
"""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Self

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import Event
from resilience.stack.postgresql_link import PASSWORD, PostgresqlLink
from resilience.stack.postgresql_role import QUESTION, Look, PostgresqlRole, decide, look_from_text, way_back
from resilience.stack.watching import Threads

EVERY_S = 0.1
TIMEOUT_S = 0.3  # a member that takes longer counts as unreachable

Emit = Callable[[Event], None]


class PostgresqlWatch:
    """Emits a ``role`` event (`history.event`) whenever a member's role or timeline changes, and for its first one; and
    a ``came-back`` event for one whose server has been started again.

    ``emit`` is called by one thread at a time. A stack without the tier has nobody to be watched.
    """

    def __init__(self, platform: Platform, clock: RunClock, emit: Emit) -> None:
        """Nothing is asked before `start`."""
        self._platform = platform
        self._clock = clock
        self._emit = emit
        self._lock = Lock()
        self._looks: dict[str, Look | StackError] = {}
        self._told: dict[str, tuple[str, int]] = {}  # by member: its role and timeline, as they were told last
        self._started: dict[str, str] = {}  # by member: when the server was that answered last
        self._hosts = {state.name: state.address for state in platform.states() if state.component == "postgresql"}
        self._threads = Threads(
            "watching the roles of PostgreSQL",
            {name: partial(self._run, name, host) for name, host in self._hosts.items()},
        )

    def start(self) -> Self:
        """Starts watching; once for each watch."""
        self._threads.start()
        return self

    def stop(self) -> None:
        """Stops watching. Raises `ExceptionGroup` with whatever went wrong in the background."""
        self._threads.stop()

    def _run(self, member: str, host: str) -> None:
        link = PostgresqlLink(member, host, self._platform.secret(PASSWORD), TIMEOUT_S)
        try:
            for _ in self._threads.rounds(EVERY_S):
                self._heard(member, _look(link))
        finally:
            link.close()

    def _heard(self, member: str, look: Look | StackError) -> None:
        with self._lock:
            self._looks[member] = look
            roles = {role.member: role for role in decide(self._platform.stack, self._hosts, self._looks)}
            for name in self._looks:  # that somebody is stray may be news from another
                self._tell(roles[name])
            if isinstance(look, Look):
                self._tell_way_back(member, look)

    def _tell(self, role: PostgresqlRole) -> None:
        now = (role.role, role.timeline)
        if self._told.get(role.member) == now:
            return
        self._told[role.member] = now
        data = {"member": role.member, "group": role.group, "role": role.role, "epoch": role.timeline}
        self._emit(Event("role", self._clock.now_us(), data))

    def _tell_way_back(self, member: str, look: Look) -> None:
        way = way_back(self._started.get(member, ""), look)
        self._started[member] = look.started
        if way:
            self._emit(Event("came-back", self._clock.now_us(), {"member": member, "by": way}))


def _look(link: PostgresqlLink) -> Look | StackError:
    try:
        return look_from_text(link.ask(QUESTION)[0][0])
    except StackError as error:  # that it does not answer is the news
        return error
