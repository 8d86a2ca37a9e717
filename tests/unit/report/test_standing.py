"""What is shown of a stack that is up."""

import io
from typing import Any

import pytest

from resilience.report.standing import left_text, status_screen
from resilience.report.terminal import console_for

FACTS = {"stack": "harmonyflow", "scenario": "baseline", "since_utc": "2026-11-24T16:00:00+00:00"}
DOORS = (("prometheus-0", "http://127.0.0.1:9090"), ("edge-0", "http://127.0.0.1:8080"))


def member(name: str, component: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "component": component, "node": "n", "running": True, "restarts": 0, "held_by": []} | fields


def shown(**look: Any) -> str:
    output = io.StringIO()
    whole = {"states": [], "roles": [], "open": [], "left_s": 60.0} | look
    console_for(output).print(status_screen(FACTS, DOORS, whole))
    return output.getvalue()


def line_of(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def test_addresses_roles_and_what_became_of_members():
    text = shown(
        states=[
            member("redis-cluster-0", "redis", running=False, held_by=["x-1"], restarts=2),
            member("session-0", "session"),
            member("loadgen", "loadgen", running=False),
        ],
        roles=[{"member": "redis-cluster-0", "group": 1, "role": "unreachable"}],
    )
    assert "http://127.0.0.1:9090" in text
    assert line_of(text, "redis-cluster-0").split() == [
        "redis-cluster-0", "n", "unreachable,", "shard", "1", "dead,", "held", "by", "x-1", "2",
    ]  # fmt: skip
    assert "running" in line_of(text, "session-0")
    assert "none without a run" in line_of(text, "loadgen")
    assert "nothing is injected" in text


def test_a_postgresql_member_is_shown_with_its_timeline_and_its_lag():
    names = ("pg-0", "pg-1", "pg-2", "pg-3")
    role = {"timeline": 2, "lag_bytes": None, "synchrony": ""}
    text = shown(
        states=[member(name, "postgresql") for name in names],
        postgresql=[
            role | {"member": "pg-0", "role": "stray", "timeline": 1},
            role | {"member": "pg-1", "role": "primary"},
            role | {"member": "pg-2", "role": "replica", "lag_bytes": 12, "synchrony": "quorum"},
            role | {"member": "pg-3", "role": "unreachable", "timeline": 0},
        ],
    )
    assert "stray, timeline 1" in line_of(text, "pg-0")
    assert "primary, timeline 2" in line_of(text, "pg-1")
    assert "replica, timeline 2, quorum, 12 bytes behind" in line_of(text, "pg-2")
    assert line_of(text, "pg-3").split()[2:] == ["unreachable", "running", "0"]


def test_who_leads_which_queue():
    text = shown(
        states=[member(f"rabbitmq-{number}", "rabbitmq") for number in range(3)],
        queues=[
            {"member": "rabbitmq-0", "queue": "session-events", "role": "leader"},
            {"member": "rabbitmq-0", "queue": "session-events.dead", "role": "leader"},
            {"member": "rabbitmq-1", "queue": "session-events", "role": "follower"},
        ],
    )
    assert "leads session-events, session-events.dead" in line_of(text, "rabbitmq-0")
    assert "leads no queue" in line_of(text, "rabbitmq-1")
    assert line_of(text, "rabbitmq-2").split()[2] == "rabbitmq", "it answered nothing"


def test_what_is_injected_says_when_it_ends():
    one = {"id": "x-1", "fault": "kill", "members": ["a", "b\x1b"], "since_s": 12.0, "ttl_s": 35.0}
    text = shown(open=[one, one | {"since_s": None}])
    assert "injected: kill into a, b\\x1b, for 12 s, ends by itself after 35 s (x-1)" in text
    assert "being injected" in text
    assert "nothing is injected" not in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(28_799, "7 h 59 min"), (3_600, "1 h 0 min"), (150, "2 min"), (42.9, "42 s"), (0, "0 s")]
)
def test_time_left(seconds: float, text: str):
    assert left_text(seconds) == text
