from dataclasses import dataclass
from typing import Any

import pytest

from resilience.stack.prometheus import unscraped
from tests.unit.stack.views import STACK


def target(member: str, health: str = "up", error: str = "") -> dict[str, Any]:
    return {
        "labels": {"member": member, "job": "any"},
        "scrapeUrl": f"http://{member}:1/metrics",
        "health": health,
        "lastError": error,
    }


ALL = {member.name: target(member.name) for member in STACK.members}


@dataclass(frozen=True)
class Case:
    name: str
    targets: dict[str, dict[str, Any]]
    expect: list[str]


CASES = (
    Case("all are up", ALL, []),
    Case("the load has not started", ALL | {"loadgen": target("loadgen", "down", "refused")}, []),
    Case(
        "one is down",
        ALL | {"session-0": target("session-0", "down", "connection refused")},
        ["target http://session-0:1/metrics is down (connection refused)"],
    ),
    Case(
        "one was not asked yet",
        ALL | {"session-0": target("session-0", "unknown")},
        ["target http://session-0:1/metrics is unknown (not scraped yet)"],
    ),
    Case(
        "one is no target",
        {name: one for name, one in ALL.items() if name != "redis-cluster-3"},
        ["no target scrapes redis-cluster-3"],
    ),
    Case("no targets at all", {}, [f"no target scrapes {member.name}" for member in STACK.members]),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_members_that_are_not_scraped_are_named(case: Case):
    assert unscraped(STACK, list(case.targets.values())) == case.expect


def test_a_second_target_of_a_member_has_to_be_up_too():
    second = target("redis-cluster-0", "down", "timeout")
    assert unscraped(STACK, [*ALL.values(), second]) == ["target http://redis-cluster-0:1/metrics is down (timeout)"]
