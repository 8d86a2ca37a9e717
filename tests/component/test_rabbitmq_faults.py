"""Faults on the leader of a queue, whoever that is: proved in effect and healed; nothing done is nothing proved."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from resilience.backend.base import Proof
from resilience.backend.local.place import calling_user
from resilience.backend.local.platform import OwnedLocalPlatform, PlatformFile
from resilience.backend.local.sandbox import state_dir
from resilience.errors import StackError
from resilience.fault.base import NoTarget
from resilience.fault.injector import Injector
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.spec.fault import FastRestart, FaultSpec, Injection, Kill, Partition, Pause, Target
from resilience.spec.rabbitmq import QueueName
from resilience.spec.stack import Member
from resilience.stack.rabbitmq import queue_roles, survey
from tests.component.local_stack import brought_up
from tests.component.rabbitmq_members import NAMES, STACK, eventually, leader_of, publish, ready, take, texts

pytestmark = pytest.mark.component

QUEUE: QueueName = "session-events"
LEADER = Target(component="rabbitmq", role="leader", queue=QUEUE)
WITNESSED = msgspec.structs.replace(
    STACK, members=(*STACK.members, Member(name="node-exporter-0", component="node-exporter", node="observer"))
)
FAULTS: tuple[FaultSpec, ...] = (Kill(restart=False), FastRestart(), Partition(cut_from="peers"), Pause())


def kind_of(fault: FaultSpec) -> str:
    return str(fault.__struct_config__.tag)


@pytest.fixture(scope="module")
def up(image: Path, folder: Path) -> Iterator[OwnedLocalPlatform]:
    with brought_up(WITNESSED, image, folder) as owned:
        yield owned


@pytest.fixture
def injector(up: OwnedLocalPlatform, folder: Path) -> Injector:
    """An injector on the three, which are ready."""
    ready(up)
    facts_file = state_dir(calling_user()) / folder.parent.name / folder.name / "platform.json"
    facts = msgspec.json.decode(facts_file.read_bytes(), type=PlatformFile)
    return Injector(
        platform=up,
        roles=tuple,
        queue_roles=lambda: queue_roles(up),
        ledger=Ledger(Path(facts.ledger)),
        clock=RunClock(facts.base_ns),
    )


def planned(injector: Injector, fault: FaultSpec, name: str) -> Injection:
    found = injector.plan(f"test-{kind_of(fault)}-{name}", fault, LEADER, 60.0)
    assert not isinstance(found, NoTarget), found
    return found


def proof(injector: Injector, injection: Injection, *, holds: bool) -> Proof:
    return eventually(lambda: injector.probe(injection.id), lambda seen: seen.holds is holds)


def refuses(platform: OwnedLocalPlatform, member: str) -> bool:
    """Whether a member that is in a minority has stopped to serve."""
    view = survey(platform)[member]
    return isinstance(view, StackError) and "refused" in str(view)


@pytest.mark.parametrize("fault", FAULTS, ids=kind_of)
def test_nothing_done_is_nothing_proved(injector: Injector, fault: FaultSpec) -> None:
    nothing = msgspec.structs.replace(planned(injector, fault, "nothing"), steps=())
    injector.inject(nothing)
    assert not injector.probe(nothing.id).holds
    injector.heal(nothing.id, "request")


@pytest.mark.parametrize("fault", FAULTS, ids=kind_of)
def test_the_leader_suffers_is_followed_and_comes_back(
    injector: Injector, up: OwnedLocalPlatform, fault: FaultSpec
) -> None:
    victim = leader_of(up, QUEUE)
    for number in range(5):
        publish(up, victim, QUEUE, f"{kind_of(fault)}-{number}")
    injection = planned(injector, fault, "real")
    assert injection.members == (victim,), "resolved by the servers' own word"

    injector.inject(injection)
    proof(injector, injection, holds=True)
    if not isinstance(fault, FastRestart):
        others = [name for name in NAMES if name != victim]
        eventually(lambda: leader_of(up, QUEUE), lambda leader: leader in others)
        proof(injector, injection, holds=True)
    if isinstance(
        fault, Partition
    ):  # one that ends before the member has fallen silent leaves the cluster in two parts
        eventually(lambda: refuses(up, victim), bool)
        proof(injector, injection, holds=True)
    healed = injector.heal(injection.id, "request")
    assert healed.proof.holds, healed.proof

    if isinstance(fault, Pause):  # what the member itself makes of that is another question (docs/track-record.md)
        time.sleep(1)
        os.kill(up.state(victim).handle["server_pid"], signal.SIGKILL)
    ready(up)
    assert texts(take(up, victim, QUEUE)) == [f"{kind_of(fault)}-{number}" for number in range(5)]
