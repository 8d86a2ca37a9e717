"""Readiness of Prometheus: it answers, and has scraped every member that has a server by now.

Prometheus hands its targets to the scrapers on a fixed tick of five seconds, so that is how soon it can be ready
after its start, whatever the scrape interval (5.3 to 6.3 s were measured with 2.53).
"""

from collections.abc import Sequence
from typing import Any

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError
from resilience.spec.stack import GENERATORS, Stack
from resilience.stack.http_link import http_ask
from resilience.stack.wait import Pause, wait_until

OK = 200
# These have no server before the load is started: they must be known to Prometheus, but are down until then.
STARTED_LATER = frozenset(GENERATORS)
NOT_SCRAPED = frozenset({"pgbouncer", "etcd"})  # the one has no metrics of its own, nobody asks for the other's


def wait_ready(platform: Platform, deadline: float, pause: Pause | None = None) -> float:
    """Waits until every Prometheus of the stack has scraped every member; returns the seconds it took.

    Raises `StackError` that says which targets are missing or down, and why.
    """
    asked = [state for state in platform.states() if state.component == "prometheus"]

    def unmet() -> str:
        return "; ".join(reason for state in asked if (reason := unready(platform.stack, state)))

    return wait_until("Prometheus' readiness", unmet, deadline=deadline, every_s=0.1, pause=pause)


def unready(stack: Stack, prometheus: MemberState) -> str:
    """Why a Prometheus cannot judge yet; "" if it can."""
    try:
        ready = http_ask(prometheus, "/-/ready")
        if ready.status != OK:
            return str(ready)
        targets = http_ask(prometheus, "/api/v1/targets?state=active")
        if targets.status != OK:
            return str(targets)
        return "; ".join(unscraped(stack, targets.json()["data"]["activeTargets"]))
    except StackError as error:
        return str(error)


def unscraped(stack: Stack, targets: Sequence[dict[str, Any]]) -> list[str]:
    """Which members are no target, or have a target that is not up; empty if all is scraped.

    A target names its member by the label ``member``; ``targets`` are the active ones of Prometheus' API.
    """
    known = {target["labels"].get("member", "") for target in targets}
    scraped = [member.name for member in stack.members if member.component not in NOT_SCRAPED]
    reasons = [f"no target scrapes {name}" for name in scraped if name not in known]
    later = {member.name for member in stack.members if member.component in STARTED_LATER}
    return reasons + [
        f"target {target['scrapeUrl']} is {target['health']} ({target['lastError'] or 'not scraped yet'})"
        for target in targets
        if target["health"] != "up" and target["labels"].get("member") not in later
    ]
