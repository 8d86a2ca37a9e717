import pytest

from resilience.chaos.steady import members_down, shards_without_replica
from tests.fakes import FakeFaultPlatform
from tests.unit.fault.stand import STACK, Role

WHOLE = tuple(
    Role(member, group, role)
    for group, shard in enumerate(STACK.shards, start=1)
    for member, role in ((shard.primary, "primary"), (shard.replicas[0], "replica"))
)


def test_all_members_run() -> None:
    assert members_down(FakeFaultPlatform(STACK)) == []


@pytest.mark.parametrize(("stopped", "down"), [("session-1", ["session-1"]), ("loadgen", [])])
def test_one_does_not_run(stopped: str, down: list[str]) -> None:
    platform = FakeFaultPlatform(STACK)
    platform.stopped.add(stopped)
    assert members_down(platform) == down


@pytest.mark.parametrize(
    ("roles", "lacking"),
    [
        (WHOLE, 0),
        (WHOLE[:-1], 1),
        ((*WHOLE[:-1], Role("redis-cluster-5", 3, "unreachable")), 1),
        ((*WHOLE[1:], Role("redis-cluster-0", 1, "stray")), 1),
        ((*WHOLE[:1], Role("redis-cluster-3", 1, "primary"), *WHOLE[2:]), 1),
        ((), 3),
    ],
    ids=["whole", "no replica", "unreachable", "no primary", "two primaries", "nobody"],
)
def test_shards(roles: tuple[Role, ...], lacking: int) -> None:
    assert len(shards_without_replica(STACK, roles)) == lacking
