"""Declares the queues of a RabbitMQ cluster once its members have found each other, and says how it stands.

Members are asked over the management plugin's HTTP API: it is a documented interface, answers in milliseconds, and
tells each member's own view. (The command-line tools say the same and start an Erlang machine of their own for each
question.) While a peer is silent, a member's API may not answer before it has given the peer up, so each question has
a time-out, and all members are asked at the same time.
"""

import base64
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from resilience.backend.base import MemberState, Platform
from resilience.backend.rabbitmq_settings import queue_definitions
from resilience.errors import StackError
from resilience.history.queues import MemberSaid, QueuesSeen
from resilience.spec.rabbitmq import MANAGEMENT_PORT, USER, VHOST
from resilience.stack.http_link import HttpAnswer, http_ask
from resilience.stack.rabbitmq_view import (
    MemberView,
    QueueRole,
    QueueView,
    apart,
    counts_from_answers,
    homes,
    queues_from_answer,
    roles,
    undeclared,
    unready,
    untold,
    view_from_answers,
)
from resilience.stack.redis_cluster import shortened
from resilience.stack.wait import Pause, wait_until

POLL_S = 0.1
ASK_TIMEOUT_S = 1.0
TELL_TIMEOUT_S = 10.0
WHOLE_WITHIN_S = 5.0  # a look takes 2 s where a member is slow
PASSWORD = "rabbitmq-password"  # noqa: S105  the name of a secret
_OK = 200
_DONE = frozenset({200, 201, 204})
_NODES = "/api/nodes?columns=name,running,partitions,mem_alarm,disk_free_alarm"
# Without ``disable_stats`` an answer may be one that the plugin has kept: for five times as long as it once took.
_QUEUES = f"/api/queues/{VHOST}?disable_stats=true&columns=name,type,state,node,leader,members,online"

# As each queue's leader has counted them. A quorum queue's does that at its tick, of five seconds, and nothing asks it
# in between for what is unacknowledged: not the API of one queue, not `rabbitmqctl list_queues`, not the metrics. A
# shorter tick (`quorum_tick_interval`) would be no better look at the same cluster: at it the leader also sends its
# followers again what they miss and repairs who is taken for the leader, so queues would heal sooner than production's.
TOTALS = f"/api/queues/{VHOST}?disable_stats=true&enable_queue_totals=true"
COUNTED_WITHIN_S = 5.5
_CONSUMERS = f"/api/consumers/{VHOST}"

Views = dict[str, MemberView | StackError]


def form(platform: Platform, deadline: float, pause: Pause | None = None) -> float:
    """Waits until the members are one cluster, and declares the queues in it; returns the seconds it took.

    A quorum queue has followers on the members that there are when it is declared, so it is not declared earlier; it is
    led by the member that was told to declare it, so that each run begins with the same leaders.
    Raises `StackError` when ``deadline`` has passed.
    """
    return wait_until(
        "forming the RabbitMQ cluster", lambda: _advance(platform), deadline=deadline, every_s=POLL_S, pause=pause
    )


def wait_ready(platform: Platform, deadline: float, pause: Pause | None = None) -> float:
    """Waits until every member sees all others running, and every queue with its leader and all copies online.

    Returns the seconds it took. Raises `StackError` that says which member says what else.
    """

    def unmet() -> str:
        return shortened(unready(platform.stack, survey(platform)))

    return wait_until("RabbitMQ's readiness", unmet, deadline=deadline, every_s=POLL_S, pause=pause)


def survey(platform: Platform) -> Views:
    """What each member says now, or why it says nothing."""
    states = _states(platform)
    password = platform.secret(PASSWORD)
    with ThreadPoolExecutor(max_workers=max(1, len(states))) as pool:
        views = pool.map(lambda state: _view(state, password), states)
        return dict(zip((state.name for state in states), views, strict=True))


def incomplete(platform: Platform, within_s: float = WHOLE_WITHIN_S) -> str:
    """Why the cluster is not whole, by each member's own word, in any look for so long; "" once one finds it whole.

    One look is not enough: a slow answer would be a member's absence.
    """
    if platform.stack.rabbitmq is None:
        return f"the stack {platform.stack.name} has no RabbitMQ"

    def unmet() -> str:
        views = survey(platform)
        return shortened(unready(platform.stack, views) + untold(views))

    try:
        wait_until("seeing all queues", unmet, deadline=time.monotonic() + within_s, every_s=POLL_S)
    except StackError as error:
        return str(error)
    return ""


def queues_seen(platform: Platform, views: Views) -> QueuesSeen:
    """What these views say, and the counts of the first member that tells them, for the record."""
    members = {
        name: MemberSaid(error=str(view))
        if isinstance(view, StackError)
        else msgspec.convert(view, MemberSaid, from_attributes=True)
        for name, view in views.items()
    }
    unacknowledged, consumers = _counts(platform)
    return QueuesSeen(members=members, unacknowledged=unacknowledged, consumers=consumers)


def queue_roles(platform: Platform) -> tuple[QueueRole, ...]:
    """Who leads each queue, and who follows, by those members that answer now; empty if none does, or there is none."""
    if platform.stack.rabbitmq is None:
        return ()
    return roles([view for view in survey(platform).values() if isinstance(view, MemberView)])


def queues_of(state: MemberState, password: str, timeout_s: float) -> tuple[QueueView, ...]:
    """The queues as a member sees them now. Raises `StackError`."""
    return queues_from_answer(state.name, ask(state, password, _QUEUES, timeout_s))


def ask(state: MemberState, password: str, path: str, timeout_s: float = ASK_TIMEOUT_S) -> Any:
    """A member's answer over its management API. Raises `StackError` if there is none, or another than asked for."""
    answer = http_ask(state, path, timeout_s=timeout_s, headers=_login(password), port=MANAGEMENT_PORT)
    if answer.status != _OK:
        raise StackError(str(answer))
    return answer.json()


def tell(
    state: MemberState, password: str, path: str, payload: Mapping[str, Any], timeout_s: float = TELL_TIMEOUT_S
) -> HttpAnswer:
    """Tells a member something over its management API. Raises `StackError` if it refuses, or does not answer."""
    answer = http_ask(
        state,
        path,
        timeout_s=timeout_s,
        method="POST",
        payload=payload,
        headers=_login(password),
        port=MANAGEMENT_PORT,
    )
    if answer.status not in _DONE:
        raise StackError(str(answer))
    return answer


def _advance(platform: Platform) -> str:
    """Does what can be done now; says what is still missing."""
    views = survey(platform)
    if reasons := apart(platform.stack, views):
        return shortened(reasons)
    missing = undeclared(platform.stack, views)
    for state in _states(platform):
        mine = [queue for queue in missing if homes(platform.stack)[queue] == state.name]
        if mine:
            tell(state, platform.secret(PASSWORD), "/api/definitions", queue_definitions(platform.stack, mine))
    return f"not declared: {', '.join(missing)}" if missing else ""


def _states(platform: Platform) -> list[MemberState]:
    return [state for state in platform.states() if state.component == "rabbitmq"]


def _view(state: MemberState, password: str) -> MemberView | StackError:
    try:
        return view_from_answers(state.name, ask(state, password, _NODES), ask(state, password, _QUEUES))
    except StackError as error:
        return error


def _counts(platform: Platform) -> tuple[dict[str, int], dict[str, int]]:
    password = platform.secret(PASSWORD)
    for state in _states(platform):
        with suppress(StackError):  # then the next one
            return counts_from_answers(state.name, ask(state, password, TOTALS), ask(state, password, _CONSUMERS))
    return {}, {}


def _login(password: str) -> dict[str, str]:
    words = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return {"Authorization": f"Basic {words}"}
