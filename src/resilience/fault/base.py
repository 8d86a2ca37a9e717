"""What a fault is to the rest of the harness, and what it is planned from.

A fault *declares*: the agent's steps that inject it, and what the agent must see while it is in effect. Healing is the
same steps undone in reverse, and the heal probe is the opposite of each thing that was watched, so the two halves of a
fault cannot drift apart: see `resilience.agent`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from resilience.backend.base import FaultCapable, Platform
from resilience.spec.fault import Target

Step = dict[str, Any]  # one primitive of the agent, plain JSON
Watch = dict[str, Any]  # one probe of the agent, plain JSON


class MemberRole(Protocol):
    """Who a member of Redis or PostgreSQL is at the moment; `live_roles` of their modules in `stack` know."""

    @property
    def member(self) -> str:
        """Its name."""
        ...

    @property
    def group(self) -> int:
        """The shard it serves, from 1 in the order of the stack file; 0 where there are no shards."""
        ...

    @property
    def role(self) -> str:
        """``primary``, ``replica``, or something that no target means."""
        ...


@runtime_checkable
class StandbyRole(MemberRole, Protocol):
    """Who a member of PostgreSQL is at the moment, and how far it is behind if it is a replica."""

    @property
    def lag_bytes(self) -> int | None:
        """How much of the primary's WAL it has not received; None: not known."""
        ...

    @property
    def synchrony(self) -> str:
        """What the primary makes of it: ``async``, ``potential``, ``sync``, ``quorum``."""
        ...


class QueueRole(Protocol):
    """What a RabbitMQ member is to a queue at the moment; `resilience.stack.rabbitmq.queue_roles` knows."""

    @property
    def member(self) -> str:
        """Its name."""
        ...

    @property
    def queue(self) -> str:
        """The queue's name."""
        ...

    @property
    def role(self) -> str:
        """``leader`` or ``follower``."""
        ...


Roles = Callable[[], Sequence[MemberRole]]
QueueRoles = Callable[[], Sequence[QueueRole]]


def no_queues() -> tuple[QueueRole, ...]:
    """The roles where there is no RabbitMQ."""
    return ()


class FaultPlatform(Platform, FaultCapable, Protocol):
    """A platform that faults can be done to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a target means at this moment: the members that suffer, and the nodes that they are the whole of."""

    members: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    primary: str = ""  # of PostgreSQL, where the target means standbys of it


@dataclass(frozen=True, slots=True, kw_only=True)
class NoTarget:
    """A target that matches nothing at this moment: nothing is done, and nothing may be concluded from it."""

    target: Target
    reason: str


class Fault(Protocol):
    """One kind of fault; all methods only look at the platform. Raise `FaultError` if this cannot be done to that."""

    def inject(self, aim: Aim, platform: FaultPlatform) -> tuple[Step, ...]:
        """The steps, in the order in which they are taken."""
        ...

    def effect(self, aim: Aim, platform: FaultPlatform) -> tuple[Watch, ...]:
        """What is to be seen while the fault is in effect; the opposite is to be seen after healing."""
        ...
