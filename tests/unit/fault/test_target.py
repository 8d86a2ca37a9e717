from dataclasses import dataclass
from typing import Any, Literal

import pytest

from resilience.errors import FaultError
from resilience.fault.base import Aim, NoTarget
from resilience.fault.target import resolve
from resilience.spec.fault import Target
from resilience.spec.rabbitmq import QueueName
from resilience.spec.read import read_stack
from resilience.stack.postgresql_role import PostgresqlRole
from tests.fakes import FakeFaultPlatform
from tests.unit.fault.stand import ROLES, ROOT, STACK, Role


@dataclass(frozen=True)
class Case:
    name: str
    target: Target
    expect: Aim | str  # the aim, or a part of the reason why there is none
    stopped: frozenset[str] = frozenset()


def target_of(role: Literal["leader", "follower"], queue: QueueName) -> Target:
    return Target(component="rabbitmq", role=role, queue=queue)


NODE_2 = ("redis-cluster-1", "redis-cluster-3", "session-1", "collaboration-0")
CASES = (
    Case("primary now", Target(component="redis", role="primary", shard=1), Aim(members=("redis-cluster-3",))),
    Case("replica", Target(component="redis", role="replica", shard=2), Aim(members=("redis-cluster-4",))),
    Case("any of a shard", Target(component="redis", shard=1), Aim(members=("redis-cluster-0",))),
    Case("any primary", Target(component="redis", role="primary"), Aim(members=("redis-cluster-1",))),
    Case("unreachable", Target(component="redis", role="replica", shard=3), "no redis replica of shard 3"),
    Case(
        "whole node",
        Target(component="redis", role="primary", shard=1, scope="node"),
        Aim(members=NODE_2, nodes=("node-2",)),
    ),
    Case("first that runs", Target(component="session"), Aim(members=("session-1",)), frozenset({"session-0"})),
    Case("all", Target(component="session", scope="component"), Aim(members=("session-0", "session-1"))),
    Case(
        "all, one down",
        Target(component="session", scope="component"),
        Aim(members=("session-0", "session-1")),
        frozenset({"session-0"}),
    ),
    Case(
        "none of all runs",
        Target(component="session", scope="component"),
        "no session runs",
        frozenset({"session-0", "session-1"}),
    ),
    Case("none runs", Target(component="session"), "no session runs", frozenset({"session-0", "session-1"})),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_resolve(case: Case) -> None:
    platform = FakeFaultPlatform(STACK)
    platform.stopped |= case.stopped
    found = resolve(case.target, platform.states(), lambda: ROLES)
    if isinstance(case.expect, Aim):
        assert found == case.expect
    else:
        assert isinstance(found, NoTarget)
        assert case.expect in found.reason


def test_roles_are_asked_only_where_they_matter() -> None:
    def never() -> tuple[()]:
        raise AssertionError("asked")

    assert resolve(Target(component="redis"), FakeFaultPlatform(STACK).states(), never) == Aim(
        members=("redis-cluster-0",)
    )


def test_no_node_but_a_platform_node_is_touched() -> None:
    with pytest.raises(FaultError, match="node outside is no platform node"):
        resolve(Target(component="edge", scope="node"), FakeFaultPlatform(STACK).states(), lambda: ROLES)


def test_postgresql_members_are_meant_by_what_they_are_now() -> None:
    stack = read_stack(ROOT, "stacks/local/postgresql.yaml")
    names = ("postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1")
    roles = tuple(Role(name, 0, role) for name, role in zip(names, ("stray", "replica", "primary"), strict=True))
    states = FakeFaultPlatform(stack).states()

    def meant(role: Literal["primary", "replica", "any"]) -> Aim | NoTarget:
        return resolve(Target(component="postgresql", role=role), states, lambda: (*ROLES, *roles))

    assert meant("primary") == Aim(members=(names[2],))
    assert meant("replica") == Aim(members=(names[1],), primary=names[2])
    assert meant("any") == Aim(members=(names[0],))


PG, PG_0, PG_1 = "postgresql-primary-0", "postgresql-replica-0", "postgresql-replica-1"


def standbys(*said: tuple[int | None, str]) -> tuple[PostgresqlRole, ...]:
    """A primary and standbys, by how far each lags and what the primary makes of it."""
    return (
        PostgresqlRole(member=PG, role="primary"),
        *(
            PostgresqlRole(member=name, role="replica", lag_bytes=lag, synchrony=synchrony)
            for name, (lag, synchrony) in zip((PG_0, PG_1), said, strict=True)
        ),
    )


@pytest.mark.parametrize(
    ("sort", "said", "expect"),
    [
        ("most-lag", ((10, "async"), (9, "async")), PG_0),
        ("most-lag", ((9, "async"), (10, "async")), PG_1),
        ("most-lag", ((None, "async"), (10, "async")), PG_0),
        ("most-lag", ((0, "async"), (0, "async")), PG_1),
        ("least-lag", ((0, "async"), (0, "async")), PG_0),
        ("least-lag", ((None, ""), (10, "async")), PG_1),
        ("sync", ((0, "potential"), (0, "sync")), PG_1),
        ("sync", ((0, "async"), (0, "quorum")), PG_1),
        ("async", ((0, "sync"), (0, "potential")), PG_1),
        ("async", ((0, "async"), (0, "async")), PG_0),
        ("sync", ((0, "async"), (0, "async")), "no postgresql replica (sync) at the moment"),
        ("async", ((0, "quorum"), (0, "quorum")), "no postgresql replica (async) at the moment"),
    ],
)
def test_a_standby_is_meant_by_what_the_servers_say_of_it(
    sort: Any, said: tuple[tuple[int | None, str], ...], expect: str
) -> None:
    states = FakeFaultPlatform(read_stack(ROOT, "stacks/local/postgresql.yaml")).states()
    target = Target(component="postgresql", role="replica", standby=sort)
    found = resolve(target, states, lambda: (*ROLES, *standbys(*said)))
    if isinstance(found, NoTarget):
        assert found.reason == expect
    else:
        assert found == Aim(members=(expect,), primary=PG)


@dataclass(frozen=True)
class QueueRole:
    member: str
    queue: str
    role: str


QUEUES = read_stack(ROOT, "stacks/local/rabbitmq.yaml")
QUEUE_ROLES = (
    QueueRole("rabbitmq-0", "session-events", "follower"),
    QueueRole("rabbitmq-1", "session-events", "follower"),
    QueueRole("rabbitmq-2", "session-events", "leader"),
    QueueRole("rabbitmq-0", "content-processing", "leader"),
)
ON_NODE_3 = ("redis-cluster-2", "redis-cluster-4", "rabbitmq-2", "collaboration-1")


@pytest.mark.parametrize(
    "case",
    [
        Case("leader", target_of("leader", "session-events"), Aim(members=("rabbitmq-2",))),
        Case("follower", target_of("follower", "session-events"), Aim(members=("rabbitmq-0",))),
        Case(
            "next follower",
            target_of("follower", "session-events"),
            Aim(members=("rabbitmq-1",)),
            frozenset({"rabbitmq-0"}),
        ),
        Case(
            "nobody leads", target_of("leader", "collaboration-sync"), "no rabbitmq leader of collaboration-sync at the"
        ),
        Case("it is down", target_of("leader", "session-events"), "(rabbitmq-2 do not)", frozenset({"rabbitmq-2"})),
        Case("any", Target(component="rabbitmq"), Aim(members=("rabbitmq-0",))),
        Case(
            "its node",
            Target(component="rabbitmq", role="leader", queue="session-events", scope="node"),
            Aim(members=ON_NODE_3, nodes=("node-3",)),
        ),
    ],
    ids=lambda case: case.name,
)
def test_a_queues_leader_and_followers(case: Case) -> None:
    platform = FakeFaultPlatform(QUEUES)
    platform.stopped |= case.stopped
    found = resolve(case.target, platform.states(), lambda: ROLES, lambda: QUEUE_ROLES)
    if isinstance(case.expect, Aim):
        assert found == case.expect
    else:
        assert isinstance(found, NoTarget)
        assert case.expect in found.reason
