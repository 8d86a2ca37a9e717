"""What the fault room's tests stand on: the shipped stack, who is primary in it, and an injector on a fake platform."""

from dataclasses import dataclass
from pathlib import Path

from resilience.fault.injector import Injector
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.spec.read import read_stack
from tests.fakes import FakeFaultPlatform

ROOT = Path(__file__).parents[3]
STACK = read_stack(ROOT, "stacks/local/harmonyflow.yaml")


@dataclass(frozen=True)
class Role:
    member: str
    group: int
    role: str


# shard 1 has failed over: its replica of old is its primary
ROLES = (
    Role("redis-cluster-0", 1, "replica"),
    Role("redis-cluster-3", 1, "primary"),
    Role("redis-cluster-1", 2, "primary"),
    Role("redis-cluster-4", 2, "replica"),
    Role("redis-cluster-2", 3, "primary"),
    Role("redis-cluster-5", 3, "unreachable"),
)


def injector_on(platform: FakeFaultPlatform, folder: Path) -> Injector:
    ledger = Ledger(folder / "ledger.jsonl")
    return Injector(platform=platform, roles=lambda: ROLES, ledger=ledger, clock=RunClock(0))
