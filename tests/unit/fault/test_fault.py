"""Which steps and watches come of which fault, and what each refuses."""

from typing import Any, get_args

import pytest

from resilience.errors import FaultError
from resilience.fault.base import Aim, Watch
from resilience.fault.registry import FAULTS, fault_from_spec
from resilience.spec.fault import (
    CutReplication,
    Delete,
    Deny,
    Drain,
    FastRestart,
    FaultSpec,
    Freeze,
    Isolate,
    Kill,
    NodeFault,
    Noop,
    Partition,
    Pause,
    PowerOff,
    Reboot,
    RollingRestart,
    Scale,
)
from resilience.spec.read import read_stack
from tests.fakes import FakeFaultPlatform
from tests.unit.fault.stand import ROOT, STACK

NODE_1 = Aim(members=("redis-cluster-0", "redis-cluster-5", "session-0"), nodes=("node-1",))
PRIMARY = Aim(members=("redis-cluster-0",))
SESSIONS = Aim(members=("session-0", "session-1"))
PEERS = {f"redis-cluster-{number}" for number in range(1, 6)}
ALL = {member.name for member in STACK.members} - {"redis-cluster-0"}


def steps(spec: FaultSpec, aim: Aim) -> list[str]:
    return [step["primitive"] for step in fault_from_spec(spec).inject(aim, FakeFaultPlatform(STACK))]


def effect(spec: FaultSpec, aim: Aim, platform: FakeFaultPlatform | None = None) -> tuple[Watch, ...]:
    return fault_from_spec(spec).effect(aim, platform or FakeFaultPlatform(STACK))


def pairs(watches: tuple[Watch, ...], probe: str, **having: Any) -> set[tuple[str, str]]:
    return {
        (item["via"]["name"], item["to"]["name"])
        for item in watches
        if item["probe"] == probe and having.items() <= item.items()
    }


def test_every_kind_is_carried_out() -> None:
    assert set(FAULTS) == set(get_args(FaultSpec))


@pytest.mark.parametrize(
    ("spec", "aim", "expect"),
    [
        (Noop(), PRIMARY, []),
        (Kill(restart=True), PRIMARY, ["signal"]),
        (Kill(restart=False), PRIMARY, ["hold", "signal"]),
        (Pause(), PRIMARY, ["pause"]),
        (FastRestart(), PRIMARY, ["hold", "signal", "release"]),
        (FastRestart(data="gone"), PRIMARY, ["hold", "signal", "wipe", "release"]),
        (PowerOff(), NODE_1, ["power-off"]),
        (Freeze(), NODE_1, ["freeze"]),
        (Isolate(), NODE_1, ["isolate"]),
        (Reboot(), NODE_1, ["reboot"]),
        (Drain(), NODE_1, ["drain"]),
        (Delete(), PRIMARY, ["delete"]),
        (Scale(), SESSIONS, ["scale"]),
        (Deny(to="redis"), SESSIONS, ["deny"]),
        (RollingRestart(), SESSIONS, ["rollout"]),
        (Partition(cut_from="peers"), PRIMARY, ["drop"]),
    ],
)
def test_steps(spec: FaultSpec, aim: Aim, expect: list[str]) -> None:
    assert steps(spec, aim) == expect


@pytest.mark.parametrize(
    "spec",
    [
        Noop(),
        Kill(restart=True),
        Kill(restart=False),
        Pause(),
        FastRestart(),
        FastRestart(data="gone"),
        PowerOff(),
        Freeze(),
        Isolate(),
        Reboot(),
        Drain(),
        Delete(),
        Scale(),
        Deny(to="redis"),
        RollingRestart(),
        Partition(cut_from="all"),
    ],
)
def test_every_fault_is_watched(spec: FaultSpec) -> None:
    assert effect(spec, NODE_1 if isinstance(spec, NodeFault | Drain) else PRIMARY)


def test_a_restarted_kill_watches_the_identity_alone() -> None:
    assert [(item["probe"], item["expect"]) for item in effect(Kill(restart=True), PRIMARY)] == [
        ("identity", "replaced")
    ]


def test_a_pause_is_watched_by_the_kernel_and_by_an_observer() -> None:
    watches = effect(Pause(), PRIMARY)
    assert [(item["probe"], (item.get("of") or item["to"])["name"]) for item in watches] == [
        ("stopped", "redis-cluster-0"), ("mute", "redis-cluster-0")
    ]  # fmt: skip
    assert watches[1]["via"]["name"] == "prometheus-0"


def test_a_fast_restart_is_watched_by_the_identity_and_by_what_became_of_the_data() -> None:
    assert [item["probe"] for item in effect(FastRestart(), PRIMARY)] == ["identity"]
    assert effect(FastRestart(), PRIMARY)[0]["expect"] == "succeeded"
    assert [item["probe"] for item in effect(FastRestart(data="gone"), PRIMARY)] == ["identity", "emptied"]


def test_power_off_is_watched_from_an_observer_and_from_another_node() -> None:
    watches = effect(PowerOff(), NODE_1)
    assert pairs(watches, "silent") == {
        (via, to) for via in ("prometheus-0", "redis-cluster-1") for to in NODE_1.members
    }
    assert sum(item["probe"] == "identity" and item["expect"] == "dead" for item in watches) == len(NODE_1.members)
    assert watches[-1] == {"probe": "counter"}


def test_a_frozen_node_is_watched_by_the_kernel_and_from_two_other_places() -> None:
    watches = effect(Freeze(), NODE_1)
    assert {item["of"]["name"] for item in watches if item["probe"] == "stopped"} == set(NODE_1.members)
    assert pairs(watches, "mute") == {(via, to) for via in ("prometheus-0", "redis-cluster-1") for to in NODE_1.members}


@pytest.mark.parametrize("spec", [PowerOff(), Freeze(), Isolate()], ids=lambda spec: type(spec).__name__)
def test_who_falls_silent_with_a_node_is_known_to_the_witnesses(spec: FaultSpec) -> None:
    """One of them that nobody has heard before is left to the others of that node."""
    watches = [item for item in effect(spec, NODE_1) if item["probe"] in {"silent", "mute"}]
    assert {item["node"] for item in watches} == {"node-1"}
    assert all("node" not in item for item in effect(Pause(), PRIMARY)), "members of a component stand on several"


def test_a_node_without_its_network_is_watched_from_outside_alone() -> None:
    watches = effect(Isolate(), NODE_1)
    assert {item["probe"] for item in watches} == {"silent", "counter"}
    assert {to for _via, to in pairs(watches, "silent")} == set(NODE_1.members)


def test_after_a_reboot_no_server_is_the_one_from_before() -> None:
    watches = effect(Reboot(), NODE_1)
    assert [(item["probe"], item["expect"]) for item in watches] == [("identity", "replaced")] * len(NODE_1.members)


@pytest.mark.parametrize(
    ("cut_from", "cut"), [("peers", PEERS), ("clients", ALL - PEERS), ("all", ALL)], ids=["peers", "clients", "all"]
)
def test_a_partition_is_watched_between_exactly_the_intended_pairs(cut_from: Any, cut: set[str]) -> None:
    spec = Partition(cut_from=cut_from)
    drop = fault_from_spec(spec).inject(PRIMARY, FakeFaultPlatform(STACK))[0]
    watches = effect(spec, PRIMARY)
    target = "redis-cluster-0"
    assert set(drop["others"]) == cut
    assert pairs(watches, "unreachable") == {(other, target) for other in cut}
    assert pairs(watches, "datagram", arrives=False) == {p for o in cut for p in ((o, target), (target, o))}
    assert {pair for pair in pairs(watches, "reachable") if target in pair} == {(other, target) for other in ALL - cut}


@pytest.mark.parametrize(
    ("direction", "arriving"),
    [("in", ("redis-cluster-0", "redis-cluster-1")), ("out", ("redis-cluster-1", "redis-cluster-0"))],
)
def test_one_direction_still_arrives(direction: Any, arriving: tuple[str, str]) -> None:
    watches = effect(Partition(cut_from="peers", direction=direction), PRIMARY)
    assert arriving in pairs(watches, "datagram", arrives=True)
    assert tuple(reversed(arriving)) in pairs(watches, "datagram", arrives=False)


TIER = read_stack(ROOT, "stacks/local/postgresql.yaml")
PG, PG_0, PG_1 = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"


def test_replication_is_cut_in_each_standbys_own_network() -> None:
    platform = FakeFaultPlatform(TIER)
    fault = fault_from_spec(CutReplication())
    drops = fault.inject(Aim(members=(PG_0, PG_1), primary=PG), platform)
    assert [(drop["member"], drop["others"], drop["direction"]) for drop in drops] == [
        (PG_0, [PG], "both"),
        (PG_1, [PG], "both"),
    ]
    watches = fault.effect(Aim(members=(PG_0, PG_1), primary=PG), platform)
    cut = {pair for standby in (PG_0, PG_1) for pair in ((PG, standby), (standby, PG))}
    assert pairs(watches, "unreachable") == pairs(watches, "datagram", arrives=False) == cut
    assert (PG_0, PG_1) in pairs(watches, "reachable")
    assert {via for via, to in pairs(watches, "reachable") if to == PG_1} >= {"pgbouncer-0", "postgresql-client", PG_0}
    assert [item["in"]["name"] for item in watches if item["probe"] == "counter"] == [PG_0, PG_1]


def test_a_standby_that_is_cut_off_alone_is_reached_by_the_other() -> None:
    watches = fault_from_spec(CutReplication()).effect(Aim(members=(PG_1,), primary=PG), FakeFaultPlatform(TIER))
    assert pairs(watches, "unreachable") == {(PG, PG_1), (PG_1, PG)}
    assert (PG_0, PG_1) in pairs(watches, "reachable")
    assert all(PG not in pair for pair in pairs(watches, "reachable"))


@pytest.mark.parametrize(
    ("aim", "message"),
    [
        (Aim(members=(PG_0,)), "no PostgreSQL member takes writes"),
        (Aim(members=(PG_0, "pgbouncer-1"), nodes=("node-2",), primary=PG), "expected member or component"),
    ],
    ids=["nobody to be cut from", "a node"],
)
def test_a_cut_has_two_ends(aim: Aim, message: str) -> None:
    with pytest.raises(FaultError, match=message):
        fault_from_spec(CutReplication()).inject(aim, FakeFaultPlatform(TIER))


@pytest.mark.parametrize(
    ("spec", "aim", "probe"),
    [
        (Drain(), NODE_1, "drained"),
        (Delete(), PRIMARY, "deleted"),
        (Scale(), SESSIONS, "scaled"),
        (Deny(to="redis"), SESSIONS, "denied"),
        (RollingRestart(), SESSIONS, "rolled-out"),
    ],
)
def test_whoever_has_to_be_gone_is_looked_for(spec: FaultSpec, aim: Aim, probe: str) -> None:
    (watched,) = effect(spec, aim)
    assert (watched["probe"], [pod["name"] for pod in watched["pods"]]) == (probe, list(aim.members))


def test_who_is_denied_and_to_whom() -> None:
    platform = FakeFaultPlatform(STACK)
    platform.stopped.add("redis-cluster-2")
    (watched,) = effect(Deny(to="redis"), SESSIONS, platform)
    running = {member.name for member in STACK.of("redis")} - {"redis-cluster-2"}
    assert ({place["name"] for place in watched["others"]}, watched["others"][0]["port"]) == (running, 6379)
    platform.stopped |= running
    with pytest.raises(FaultError, match="no redis runs at the moment"):
        effect(Deny(to="redis"), SESSIONS, platform)


def test_a_member_that_is_down_is_not_expected_to_answer() -> None:
    platform = FakeFaultPlatform(STACK)
    platform.stopped.add("redis-cluster-2")
    reached = {to for _via, to in pairs(effect(Partition(cut_from="peers"), PRIMARY, platform), "reachable")}
    assert "redis-cluster-2" not in reached


@pytest.mark.parametrize(
    ("spec", "aim", "message"),
    [
        (PowerOff(), PRIMARY, "expected node"),
        (Freeze(), PRIMARY, "expected node"),
        (Isolate(), PRIMARY, "expected node"),
        (Reboot(), PRIMARY, "expected node"),
        (Drain(), PRIMARY, "expected node"),
        (Delete(), NODE_1, "expected member"),
        (Delete(), SESSIONS, "expected member, exactly one"),
        (Partition(cut_from="peers"), NODE_1, "expected member"),
        (Partition(cut_from="peers"), Aim(members=("edge-0",)), "expected a member on a platform node"),
        (Partition(cut_from="peers"), Aim(members=("prometheus-0",)), "expected a member on a platform node"),
    ],
    ids=[
        "power off of a member",
        "freeze of a member",
        "isolation of a member",
        "reboot of a member",
        "drain of a member",
        "deletion of a node",
        "deletion of two members",
        "partition of a node",
        "partition of the edge",
        "partition of an observer",
    ],
)
def test_refused(spec: FaultSpec, aim: Aim, message: str) -> None:
    with pytest.raises(FaultError, match=message):
        steps(spec, aim)
