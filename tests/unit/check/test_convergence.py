"""Whether everybody agreed again after healing."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.convergence import convergence
from resilience.check.finding import Finding
from resilience.history.record import Event, Series
from tests.histories import END, RECOVERY, WALL0, Recorded, S, recorded, scenario


def judged(run: Recorded, folder: Path) -> Finding:
    about = scenario(slos=())
    return convergence(about, run.history(folder, about))[0]


def test_it_counts_from_the_healing(tmp_path: Path) -> None:
    finding = judged(recorded(), tmp_path)
    assert finding.verdict == "pass"
    assert finding.measures == {"convergence.after_s": (END + 3 * S - RECOVERY) / S}


def test_a_stack_that_never_agrees_fails_with_its_reason(tmp_path: Path) -> None:
    run = recorded()
    run.change("converged", ok=False, reason="convergence: redis-cluster-3 and redis-cluster-0 disagree about slots")
    finding = judged(run, tmp_path)
    assert finding.verdict == "fail"
    assert "redis-cluster-3 and redis-cluster-0 disagree" in finding.reason
    assert finding.measures == {}


def test_without_a_look_nothing_is_said(tmp_path: Path) -> None:
    run = recorded()
    run.drop("converged")
    assert judged(run, tmp_path).verdict == "inconclusive"


def move(run: Recorded, name: str, at: int) -> None:
    """What was looked at by an event is what it says, at another instant."""
    data = run.event(name).data
    run.drop(name)
    run.events.append(Event(name, at, data))


TIMES = [
    (RECOVERY - S, "before all was healed"),
    (END - 1, "before the load had ended"),
    (END, ""),
]


@pytest.mark.parametrize(("at", "says"), TIMES, ids=["before healing", "under load", "at the end"])
def test_what_was_whole_too_early_says_nothing(at: int, says: str, tmp_path: Path) -> None:
    run = recorded()
    move(run, "converged", at)
    finding = judged(run, tmp_path)
    assert finding.verdict == ("inconclusive" if says else "pass")
    assert finding.reason == (f"the stack was found whole {says}" if says else "")
    run.change("converged", ok=False, reason="disagreement")
    assert judged(run, tmp_path / "not whole").verdict == "fail"


@pytest.mark.parametrize(("at", "says"), TIMES, ids=["before healing", "under load", "at the end"])
def test_what_was_compared_too_early_says_nothing(at: int, says: str, tmp_path: Path) -> None:
    run = recorded()
    move(run, "replicas", at)
    finding = replicas(run, tmp_path)["convergence.replicas"]
    assert finding.verdict == ("inconclusive" if says else "pass")
    assert says in finding.reason


def test_a_stack_without_replicas_has_nothing_to_compare(tmp_path: Path) -> None:
    run, about = recorded(), scenario(slos=())
    run.change("replicas", compared={})
    shards = tuple(replace(shard, replicas=()) for shard in about.stack.shards)
    about = replace(about, stack=replace(about.stack, shards=shards))
    found = {finding.check: finding for finding in convergence(about, run.history(tmp_path, about))}
    assert found["convergence.replicas"].verdict == "inconclusive"


def compared(run: Recorded) -> dict[str, int]:
    """How many keys each replica was compared by."""
    return dict(run.event("replicas").data["compared"])


def replicas(run: Recorded, folder: Path) -> dict[str, Finding]:
    about = scenario(slos=())
    return {finding.check: finding for finding in convergence(about, run.history(folder, about))[1:3]}


def test_replicas_that_hold_the_same(tmp_path: Path) -> None:
    found = replicas(recorded(), tmp_path)
    assert [finding.verdict for finding in found.values()] == ["pass", "pass"]


def test_a_key_that_differs_is_named(tmp_path: Path) -> None:
    run = recorded()
    run.change("replicas", differing=1, examples=[{"member": "redis-cluster-4", "key": "s-0001"}])
    finding = replicas(run, tmp_path)["convergence.replicas"]
    assert (finding.verdict, finding.reason) == ("fail", "the first: s-0001 on redis-cluster-4")


def test_a_replica_that_could_not_be_asked_is_no_pass(tmp_path: Path) -> None:
    run = recorded()
    few = {"redis-cluster-3": compared(run)["redis-cluster-3"]}
    run.change("replicas", compared=few, reasons=["redis-cluster-4: TimeoutError"])
    finding = replicas(run, tmp_path)["convergence.replicas"]
    assert (finding.verdict, finding.reason) == ("inconclusive", "redis-cluster-4: TimeoutError")


def test_a_replica_of_which_no_key_was_compared_is_no_pass(tmp_path: Path) -> None:
    run = recorded()
    few, reason = compared(run) | {"redis-cluster-5": 0}, "redis-cluster-5: shard 3 has no primary to compare it with"
    run.change("replicas", compared=few, reasons=[reason])
    finding = replicas(run, tmp_path)["convergence.replicas"]
    assert (finding.verdict, finding.reason[:16]) == ("inconclusive", "redis-cluster-5:")


@pytest.mark.parametrize(("less", "verdict"), [(0, "pass"), (1, "inconclusive")])
def test_every_key_that_was_written_to_is_compared(tmp_path: Path, less: int, verdict: str) -> None:
    run = recorded()
    acked = len({op.key for op in run.ops if op.group == 1 and op.outcome == "ok" and op.value})
    keys = compared(run)
    run.change("replicas", compared=keys | {"redis-cluster-3": acked - less})
    finding = replicas(run, tmp_path)["convergence.replicas"]
    assert finding.verdict == verdict
    assert finding.reason.endswith("; not all of those of shard 1") == bool(less)


def test_what_one_shard_has_too_many_of_another_does_not_lack_the_less(tmp_path: Path) -> None:
    run = recorded()
    keys = compared(run)
    run.change("replicas", compared={"redis-cluster-3": 9_999, "redis-cluster-4": 9_999, "redis-cluster-5": 3})
    assert replicas(run, tmp_path / "few")["convergence.replicas"].verdict == "inconclusive"
    run.change("replicas", compared=keys | {"redis-cluster-4": 0, "redis-cluster-1": keys["redis-cluster-4"]})
    assert replicas(run, tmp_path / "turned")["convergence.replicas"].verdict == "pass"  # they have changed their roles


def test_a_shard_that_nobody_saw_is_compared_with_nothing(tmp_path: Path) -> None:
    run = recorded()
    run.events = [event for event in run.events if event.name != "role" or event.data["group"] != 3]
    assert replicas(run, tmp_path)["convergence.replicas"].verdict == "inconclusive"


def test_a_member_that_tells_no_evictions_is_no_pass(tmp_path: Path) -> None:
    run = recorded()
    evicted = dict.fromkeys((f"redis-cluster-{n}" for n in range(5)), 0)
    run.change("replicas", evicted=evicted, reasons=["redis-cluster-5: evictions: TimeoutError"])
    finding = replicas(run, tmp_path)["convergence.evictions"]
    assert (finding.verdict, finding.reason) == ("inconclusive", "redis-cluster-5: evictions: TimeoutError")


def test_another_ones_evictions_are_not_a_members(tmp_path: Path) -> None:
    run = recorded()
    evicted = dict.fromkeys((f"redis-cluster-{n}" for n in range(1, 7)), 0)
    run.change("replicas", evicted=evicted)
    finding = replicas(run, tmp_path)["convergence.evictions"]
    assert (finding.verdict, finding.reason) == ("inconclusive", "5 of 6 members told how many keys they threw away")


def test_an_eviction_is_a_finding(tmp_path: Path) -> None:
    run = recorded()
    run.change("replicas", evicted={"redis-cluster-0": 3, "redis-cluster-1": 0, "redis-cluster-2": 0})
    finding = replicas(run, tmp_path)["convergence.evictions"]
    assert (finding.verdict, finding.measured) == ("fail", "redis-cluster-0 3")


def test_an_eviction_on_a_server_that_was_ended_is_a_finding(tmp_path: Path) -> None:
    """Its successor knows nothing of it, Prometheus does."""
    labels = {"__name__": "redis_evicted_keys_total", "member": "redis-cluster-0"}
    times_s = tuple(WALL0 + at for at in range(20, 26))
    for number, (values, verdict, measured) in enumerate(
        (
            ((0.0, 5.0, 7.0, 0.0, 0.0, 0.0), "fail", "redis-cluster-0 7"),
            ((0.0, 5.0, 0.0, 2.0, 0.0, 0.0), "fail", "redis-cluster-0 7"),
            ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), "pass", "0 keys on 6 members"),
        )
    ):
        run = recorded()
        run.series = [Series("redis_evicted_keys_total", labels, times_s, values)]
        finding = replicas(run, tmp_path / str(number))["convergence.evictions"]
        assert (finding.verdict, finding.measured) == (verdict, measured)


def test_without_a_comparison_nothing_is_said(tmp_path: Path) -> None:
    run = recorded()
    run.drop("replicas")
    assert {finding.verdict for finding in replicas(run, tmp_path).values()} == {"inconclusive"}
