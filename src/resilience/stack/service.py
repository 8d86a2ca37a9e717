"""Readiness of the members that answer ``/healthz`` over HTTP: the services and the edge."""

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError
from resilience.stack.http_link import http_ask
from resilience.stack.wait import Pause, wait_until

SERVICES = frozenset({"session", "collaboration", "personalization", "content", "edge"})
OK = 200


def service_states(platform: Platform) -> tuple[MemberState, ...]:
    """The members that this module knows how to ask."""
    return tuple(state for state in platform.states() if state.component in SERVICES)


def unhealthy(state: MemberState) -> str:
    """Why a service is not healthy, with its answer; "" if it is."""
    try:
        answer = http_ask(state, "/healthz")
    except StackError as error:
        return str(error)
    return "" if answer.status == OK else str(answer)


def wait_ready(platform: Platform, deadline: float, pause: Pause | None = None) -> float:
    """Waits until every service has been seen healthy; returns the seconds it took.

    Raises `StackError` that says which are not, with the last answer of each.
    """
    waiting = {state.name: state for state in service_states(platform)}

    def unmet() -> str:
        reasons = {name: unhealthy(state) for name, state in waiting.items()}
        for name, reason in reasons.items():
            if not reason:
                del waiting[name]
        return "; ".join(reason for reason in reasons.values() if reason)

    return wait_until("the services' readiness", unmet, deadline=deadline, pause=pause)
