"""The series of a run, second by second."""

from pathlib import Path

import msgspec
import pytest

from resilience.check.timeline import Timeline, timeline
from resilience.history.columns import OUTCOMES
from resilience.history.record import Event
from tests.histories import APPLIED, END, RECOVERY, Recorded, S, recorded, scenario


def test_a_run_second_by_second(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    line = timeline(about, run.history(tmp_path, about))
    assert line.seconds == tuple(range(END // S + 1))
    assert set(line.ops_per_s) == set(OUTCOMES)
    assert all(len(series) == len(line.seconds) for series in line.ops_per_s.values())
    users = [op for op in run.ops if op.client == "locust"]
    assert sum(map(sum, line.ops_per_s.values())) == len(users)
    assert line.ops_per_s["ok"][10] == 15
    assert line.error_ratio[10] == 0
    assert line.latency_ms["p99"][10] == 6.0
    assert line.direct_ok_per_s["1"][10] == 20
    assert line.direct_ok_per_s["1"][25] == 0
    assert line.direct_ok_per_s["2"][25] == 20
    assert line.deliveries_per_s[10] == 10


def test_a_second_without_ops_is_a_gap(tmp_path: Path) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if not 30 * S <= op.due < 31 * S]
    line = timeline(scenario(), run.history(tmp_path, scenario()))
    assert line.error_ratio[30] is None
    assert line.latency_ms["p50"][30] is None


def test_spans(tmp_path: Path) -> None:
    run = recorded()
    run.windows[-1] = msgspec.structs.replace(run.windows[-1], end=-1)
    line = timeline(scenario(), run.history(tmp_path, scenario()))
    assert [span.label for span in line.phases] == ["warmup", "steady", "fault", "recovery"]
    assert line.phases[-1].end_s == line.seconds[-1] + 1  # it never ended
    (injection,) = line.injections
    assert (injection.start_s, injection.end_s) == (APPLIED / S, RECOVERY / S)
    (outage,) = line.outages
    assert outage.group == 1
    assert outage.end_s - outage.start_s == pytest.approx(8.05)
    assert [(role.member, role.role) for role in line.roles if role.at_s > 0] == [("redis-cluster-3", "primary")]


def test_who_led_each_queue(tmp_path: Path) -> None:
    run, about = recorded(tiers=("rabbitmq",)), scenario(tiers=("rabbitmq",))
    members = ["rabbitmq-0", "rabbitmq-1", "rabbitmq-2"]
    led = {"queue": "session-events", "leader": "", "copies": members, "online": members[1:]}
    run.events.append(Event("queue-role", APPLIED + S, led))
    line = timeline(about, run.history(tmp_path, about))
    assert len({change.queue for change in line.queues}) == 6
    found = [(change.at_s, change.leader, change.online) for change in line.queues if change.queue == "session-events"]
    assert found == [(-1.0, "rabbitmq-0", tuple(members)), (APPLIED / S + 1, "", tuple(members[1:]))]


@pytest.mark.parametrize(
    ("group", "length_us", "brief"), [(3, 200_000, True), (3, 600_000, False), (1, 200_000, False)]
)
def test_a_brief_outage_is_told_and_not_drawn(tmp_path: Path, group: int, length_us: int, *, brief: bool) -> None:
    """Unless it is all that the fault did to the shard that it hit."""
    run = recorded(outage_us=0)
    for op in run.of("direct.write", group):
        if 30 * S <= op.due < 30 * S + length_us:
            op.end("fail", 1_500, "refused")
    line = timeline(scenario(), run.history(tmp_path, scenario()))
    drawn, told = [span.group for span in line.outages], [span.group for span in line.brief_outages]
    assert (drawn, told) == (([], [group]) if brief else ([group], []))


def test_an_injection_that_was_never_healed_runs_on(tmp_path: Path) -> None:
    run = recorded()
    run.drop("healed")
    line = timeline(scenario(), run.history(tmp_path, scenario()))
    assert line.injections[0].end_s == line.seconds[-1] + 1


def test_json_there_and_back(tmp_path: Path) -> None:
    line = timeline(scenario(), recorded().history(tmp_path, scenario()))
    assert msgspec.json.decode(msgspec.json.encode(line), type=Timeline) == line


def test_nothing_recorded(tmp_path: Path) -> None:
    line = timeline(scenario(), Recorded().history(tmp_path, scenario()))
    assert line.seconds == ()
    assert line.outages == ()
