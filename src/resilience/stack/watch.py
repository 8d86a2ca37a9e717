"""Watches the Redis members' roles while a run goes on, each by a thread of its own.

A member that is silent delays nobody else's news. What is reported is each member's own statement, so two members may
call themselves primary of one shard at the same time: that is a split, and the timeline has to show it.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any, Self

import msgspec

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import Event
from resilience.spec.stack import Stack
from resilience.stack.cluster_nodes import ClusterView, view_from_text
from resilience.stack.cluster_nodes import Flag as ClusterFlag
from resilience.stack.redis_link import RedisLink
from resilience.stack.redis_role import RedisRole, decide, formed_group, own_role
from resilience.stack.watching import Threads

EVERY_S = 0.1
TIMEOUT_S = 0.3  # a member that takes longer counts as unreachable
JOIN_S = 45.0  # where a silent member is, is asked of an API server that may be away
MOVED_EVERY_S = 2.0  # how often it is looked up where a silent member is: a new pod has another address

Emit = Callable[[Event], None]
News = tuple[str, dict[str, Any]]  # an event's name and data


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What one member says at a moment: its own part, and whom of the others it takes for failing."""

    role: RedisRole
    flags: dict[str, ClusterFlag]  # by member


def first_statement(stack: Stack, member: str, address: str) -> Statement:
    """What is taken for a member's statement before it was asked."""
    role = RedisRole(member=member, group=formed_group(stack, member), role="unreachable", epoch=0, address=address)
    return Statement(role=role, flags={})


def stated(stack: Stack, hosts: Mapping[str, str], member: str, view: ClusterView) -> Statement:
    """A member's statement, from its view; ``hosts`` are the members' addresses by name."""
    others = {name: node for name, host in hosts.items() if name != member and (node := view.at(host)) is not None}
    return Statement(
        role=own_role(stack, member, hosts[member], view), flags={name: node.flag for name, node in others.items()}
    )


def silent(before: Statement) -> Statement:
    """The statement of a member that does not answer; what it said of others stands until it says otherwise."""
    return msgspec.structs.replace(before, role=msgspec.structs.replace(before.role, role="unreachable"))


def news(before: Statement | None, after: Statement) -> list[News]:
    """What has changed between two statements of a member; ``before`` None: it has not been asked before."""
    role = after.role
    changed: list[News] = []
    if before is None or role != before.role:
        data = {"member": role.member, "group": role.group, "role": role.role, "epoch": role.epoch}
        changed.append(("role", data))
    known = {} if before is None else before.flags
    changed += [
        ("failing", {"member": member, "by": role.member, "flag": flag})
        for member, flag in after.flags.items()
        if flag != known.get(member, "ok")
    ]
    return changed


class RoleWatch:
    """Emits ``role`` and ``failing`` events (`history.event`) whenever a member's statement changes.

    ``emit`` is called by one thread at a time. The first statement of each member is emitted too; that a member takes
    another for alive is news only after it did not.
    """

    def __init__(self, platform: Platform, clock: RunClock, emit: Emit) -> None:
        """Nothing is asked before `start`."""
        self._platform = platform
        self._clock = clock
        self._emit = emit
        self._lock = Lock()
        self._views: dict[str, ClusterView] = {}
        self._hosts = {state.name: state.address for state in platform.states() if state.component == "redis"}
        self._threads = Threads(
            "watching the roles of Redis",
            {state.name: partial(self._run, state) for state in platform.states() if state.component == "redis"},
            join_s=JOIN_S,
        )

    def start(self) -> Self:
        """Starts watching; once for each watch."""
        self._threads.start()
        return self

    def stop(self) -> None:
        """Stops watching. Raises `ExceptionGroup` with whatever went wrong in the background."""
        self._threads.stop()

    def roles(self) -> tuple[RedisRole, ...]:
        """The roles by the members' last statements; a member that has not answered yet is unreachable."""
        with self._lock:
            return decide(self._platform.stack, self._hosts, self._views)

    def _run(self, state: MemberState) -> None:
        link = self._link(state.name, state.address)
        before: Statement | None = None
        looked_up = time.monotonic()
        try:
            for began in self._threads.rounds(EVERY_S):
                before = self._look(link, before)
                if before.role.role == "unreachable" and began - looked_up > MOVED_EVERY_S:
                    link, looked_up = self._followed(link), began
        finally:
            link.close()

    def _link(self, member: str, address: str) -> RedisLink:
        return RedisLink(member, address, self._platform.secret("redis-password"), TIMEOUT_S)

    def _followed(self, link: RedisLink) -> RedisLink:
        """A link to where a member is now; the same one while that has not changed."""
        try:
            address = self._platform.state(link.member).address
        except StackError:  # nobody can tell at the moment
            return link
        if address in {"", self._hosts[link.member]}:
            return link
        link.close()
        with self._lock:
            self._hosts[link.member] = address
        return self._link(link.member, address)

    def _look(self, link: RedisLink, before: Statement | None) -> Statement:
        stack, member = self._platform.stack, link.member
        view = self._view(link)
        if view is None:
            after = silent(before or first_statement(stack, member, self._hosts[member]))
        else:
            after = stated(stack, self._hosts, member, view)
        with self._lock:
            self._remember(member, view)
            for name, data in news(before, after):
                self._emit(Event(name, self._clock.now_us(), data))
        return after

    def _remember(self, member: str, view: ClusterView | None) -> None:
        if view is None:
            self._views.pop(member, None)
        else:
            self._views[member] = view

    @staticmethod
    def _view(link: RedisLink) -> ClusterView | None:
        try:
            return view_from_text(link.ask(("CLUSTER", "NODES"))[0])
        except StackError:  # that it does not answer is the news
            return None
