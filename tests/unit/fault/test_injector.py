from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resilience.backend.base import At, Injected, ToldBy, Undone, at_once
from resilience.backend.injecting import never_begun
from resilience.errors import FaultError, HarnessError, StackError
from resilience.fault.base import NoTarget
from resilience.fault.injector import Injector, heal_all, new_injection_id, ttl_s
from resilience.fault.ledger import Entry
from resilience.spec.fault import Injection, Kill, Partition, Pause, Prelude, Target
from tests.fakes import FakeFaultPlatform
from tests.unit.fault.stand import STACK, injector_on

KILL, REPLICA = Kill(restart=False), Target(component="redis", role="replica", shard=2)


@pytest.fixture
def platform() -> FakeFaultPlatform:
    return FakeFaultPlatform(STACK)


@pytest.fixture
def injector(platform: FakeFaultPlatform, tmp_path: Path) -> Injector:
    return injector_on(platform, tmp_path)


def planned(injector: Injector, injection_id: str = "test-1") -> Injection:
    injection = injector.plan(injection_id, KILL, REPLICA, 20.0)
    assert isinstance(injection, Injection)
    return injection


def healed(injector: Injector) -> list[str]:
    told: list[str] = []
    heal_all(injector, lambda injection_id, _undone: told.append(injection_id))
    return told


@pytest.mark.parametrize(("planned_s", "expect"), [(20.0, 30.0), (40.0, 50.0), (100.0, 125.0)])
def test_time_to_live(planned_s: float, expect: float) -> None:
    assert ttl_s(planned_s) == expect


def test_ids_say_what_they_belong_to_and_differ() -> None:
    assert new_injection_id("redis-failover").startswith("redis-failover-")
    assert new_injection_id("x") != new_injection_id("x")


def test_planning_touches_nothing(platform: FakeFaultPlatform, injector: Injector) -> None:
    injection = planned(injector)
    assert (injection.members, injection.ttl_s) == (("redis-cluster-4",), 30.0)
    assert platform.told == []
    assert injector.ledger.entries() == ()


def test_a_target_that_matches_nothing_is_an_answer(injector: Injector) -> None:
    found = injector.plan("test-1", KILL, Target(component="redis", role="replica", shard=3), 20.0)
    assert isinstance(found, NoTarget)


def test_a_prelude_is_planned_with_its_own_target(injector: Injector) -> None:
    before = Prelude(fault=Pause(), target=Target(component="redis", role="replica", shard=1), for_s=1.0)
    found = injector.plan("test-1", KILL, Target(component="redis", role="primary", shard=1), 20.0, before)
    assert isinstance(found, Injection)
    assert found.members == ("redis-cluster-3", "redis-cluster-0")
    assert found.prelude is not None
    assert found.prelude.members == ("redis-cluster-0",)
    assert [step["primitive"] for step in found.prelude.steps] == ["pause"]
    assert {item["probe"] for item in found.prelude.watch} == {"stopped", "mute"}
    assert "pause" not in {step["primitive"] for step in found.steps}


def test_a_prelude_whose_target_matches_nothing_is_an_answer(injector: Injector) -> None:
    before = Prelude(fault=Pause(), target=Target(component="redis", role="replica", shard=3), for_s=1.0)
    found = injector.plan("test-1", KILL, Target(component="redis", role="primary", shard=1), 20.0, before)
    assert isinstance(found, NoTarget)
    assert found.target == before.target


def test_it_is_in_the_ledger_before_anything_is_touched(tmp_path: Path) -> None:
    class Looking(FakeFaultPlatform):
        def apply(self, injection: Mapping[str, Any], at_ns: At = at_once) -> Injected:
            assert [planned.id for planned in watched.ledger.open_injections()] == [injection["id"]]
            return super().apply(injection, at_ns)

    watched = injector_on(Looking(STACK), tmp_path)
    watched.inject(planned(watched), at_us=lambda: 5_000)
    entry = watched.ledger.last("test-1", "applied")
    assert entry is not None
    assert (entry.began_us, entry.at_us) == (5_000, 7_000)


def test_what_could_not_be_applied_is_undone_and_closed(platform: FakeFaultPlatform, injector: Injector) -> None:
    platform.refuses = {"apply"}
    with pytest.raises(FaultError, match="refused by the test"):
        injector.inject(planned(injector))
    assert platform.told == [("apply", "test-1"), ("undo", "test-1")]
    assert injector.ledger.open_injections() == ()


def test_what_could_not_be_undone_stays_open(platform: FakeFaultPlatform, injector: Injector) -> None:
    platform.refuses = {"apply", "undo"}
    with pytest.raises(FaultError):
        injector.inject(planned(injector))
    assert [injection.id for injection in injector.ledger.open_injections()] == ["test-1"]


def test_healing_twice_is_booked_once(platform: FakeFaultPlatform, injector: Injector) -> None:
    injector.inject(planned(injector))
    injector.heal("test-1", "request")
    injector.heal("test-1", "rollback")
    assert [entry.by for entry in injector.ledger.entries() if entry.state == "healed"] == ["request"]


def test_the_ledger_says_when_undoing_began(platform: FakeFaultPlatform, injector: Injector) -> None:
    injector.inject(planned(injector))
    platform.now_ns, platform.undoing_ns = 7_000_000, 18_000_000
    injector.heal("test-1", "request")
    entry = injector.ledger.last("test-1", "healed")
    assert entry is not None
    assert (entry.began_us, entry.undoing_us, entry.at_us) == (7_000, 7_000, 25_000)


def test_a_line_of_an_older_harness_knows_the_end_only() -> None:
    assert Entry(at_us=25_000, injection="test-1", state="healed").undoing_us == 25_000


@pytest.mark.parametrize("by", ["ttl", "restart", "leave"])
def test_what_the_agent_ended_by_itself_is_booked_so(platform: FakeFaultPlatform, injector: Injector, by: str) -> None:
    injector.inject(planned(injector))
    platform.ended_by["test-1"] = by
    injector.heal("test-1", "request")
    entry = injector.ledger.last("test-1", "healed")
    assert entry is not None
    assert entry.by == by


def test_heal_all_tries_all_newest_first(platform: FakeFaultPlatform, injector: Injector) -> None:
    for injection_id in ("test-1", "test-2", "test-3"):
        injector.inject(planned(injector, injection_id))
    injector.heal("test-2", "request")
    platform.told.clear()
    assert healed(injector) == ["test-3", "test-1"]
    assert healed(injector) == []


def test_heal_all_raises_everything_that_failed(platform: FakeFaultPlatform, injector: Injector) -> None:
    for injection_id in ("test-1", "test-2"):
        injector.inject(planned(injector, injection_id))
    platform.refuses = {"undo"}
    with pytest.raises(ExceptionGroup) as caught:
        healed(injector)
    assert len(caught.value.exceptions) == 2
    assert len(injector.ledger.open_injections()) == 2


@pytest.mark.parametrize(
    "error",
    [FaultError("the agent does not answer"), StackError("the API server does not answer")],
    ids=["its agent", "the platform"],
)
def test_what_could_be_healed_is_told_although_another_could_not(
    platform: FakeFaultPlatform, injector: Injector, monkeypatch: pytest.MonkeyPatch, error: HarnessError
) -> None:
    for injection_id in ("test-1", "test-2"):
        injector.inject(planned(injector, injection_id))
    undo = platform.undo

    def first_only(injection_id: str, at_ns: int) -> Undone:
        if injection_id == "test-2":
            raise error
        return undo(injection_id, at_ns)

    monkeypatch.setattr(platform, "undo", first_only)
    told: list[str] = []
    with pytest.raises(ExceptionGroup):
        heal_all(injector, lambda injection_id, _undone: told.append(injection_id))
    assert told == ["test-1"]
    assert [item.id for item in injector.ledger.open_injections()] == ["test-2"]


def test_a_listener_that_breaks_off_leaves_nothing_open(platform: FakeFaultPlatform, injector: Injector) -> None:
    for injection_id in ("test-1", "test-2"):
        injector.inject(planned(injector, injection_id))

    def full(_injection: str, _undone: Undone) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        heal_all(injector, full)
    assert injector.ledger.open_injections() == ()


def test_an_effect_that_is_not_there_is_not_proved(platform: FakeFaultPlatform, injector: Injector) -> None:
    platform.works = False
    injector.inject(planned(injector))
    assert not injector.probe("test-1").holds


def test_a_partition_without_others_is_refused(tmp_path: Path) -> None:
    platform = FakeFaultPlatform(STACK)
    alone = tuple(state for state in platform.states() if state.component != "redis" or state.name == "redis-cluster-0")
    platform.states = lambda: alone  # type: ignore[method-assign]
    with pytest.raises(FaultError, match="has no peers"):
        injector_on(platform, tmp_path).plan("test-1", Partition(cut_from="peers"), Target(component="redis"), 20.0)


class Forgetful(FakeFaultPlatform):
    """No agent knows of any injection when it is to be ended."""

    def undo(self, injection_id: str, at_ns: int = 0) -> Undone:
        super().undo(injection_id, at_ns)
        return never_begun(injection_id)


def test_what_was_applied_and_no_agent_knows_of_any_more_is_not_proved_healed(tmp_path: Path) -> None:
    injector = injector_on(Forgetful(STACK), tmp_path)
    injector.inject(planned(injector))
    undone = injector.heal("test-1", "request")
    assert not undone.proof.holds
    assert [item.observed for item in undone.proof.evidence] == ["no agent knows of it"]
    assert injector.ledger.open_injections() == ()


def test_what_was_never_applied_has_nothing_to_be_proved(tmp_path: Path) -> None:
    platform = Forgetful(STACK)
    platform.refuses = {"apply"}
    injector = injector_on(platform, tmp_path)
    with pytest.raises(FaultError):
        injector.inject(planned(injector))
    assert injector.heal("test-1", "request").proof.holds


class Elsewhere(FakeFaultPlatform):
    """Its agent is under another kernel; the second answer's instants are not known."""

    def apply(self, injection: Mapping[str, Any], at_ns: At = at_once) -> Injected:
        told_by = ToldBy(process="agent of worker-2", boot_id="90", error_ns=3_000_001)
        return msgspec.structs.replace(super().apply(injection, at_ns), told_by=told_by)

    def undo(self, injection_id: str, at_ns: int = 0) -> Undone:
        told_by = ToldBy(process="agent of worker-2", boot_id="90", error_ns=None)
        return msgspec.structs.replace(super().undo(injection_id, at_ns), told_by=told_by)


def test_by_whose_clock_an_injection_and_its_end_were_told_is_said_once(tmp_path: Path) -> None:
    said: list[tuple[str, dict[str, Any]]] = []
    injector = replace(injector_on(Elsewhere(STACK), tmp_path), say=lambda name, data: said.append((name, data)))
    injector.inject(planned(injector))
    injector.heal("test-1", "request")
    injector.heal("test-1", "request")
    agent = {"process": "agent of worker-2", "boot_id": "90"}
    assert said == [("clock-compared", {**agent, "offset_us": 0, "error_us": 3_001}), ("clock-compared", agent)]
