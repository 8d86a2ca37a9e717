"""The probes that experiments call; each answers true or false, and says in the log why it is false."""

from resilience.chaos.reach import call

__all__ = [
    "healed",
    "in_effect",
    "load_at_rate",
    "members_running",
    "postgresql_replicated",
    "queues_replicated",
    "shards_replicated",
]


def in_effect(when: str) -> bool:
    """Whether the fault is in effect, seen from a third point of view; ``when``: ``injected`` or ``before-heal``."""
    return _true(call("in_effect", when=when))


def healed() -> bool:
    """Whether every injection has ended and the opposite of its effect was seen."""
    return _true(call("healed"))


def members_running() -> bool:
    """Whether every member that has a server runs it."""
    return _true(call("members_running"))


def shards_replicated() -> bool:
    """Whether every shard has its primary and as many replicas as the stack file gives it."""
    return _true(call("shards_replicated"))


def postgresql_replicated() -> bool:
    """Whether PostgreSQL has one primary, from which all its other members stream."""
    return _true(call("postgresql_replicated"))


def queues_replicated() -> bool:
    """Whether the RabbitMQ members are one cluster, and every queue has its leader and all its copies online, in one of
    several looks.
    """
    return _true(call("queues_replicated"))


def load_at_rate() -> bool:
    """Whether each part of the load has sent at nearly its least rate over the last few seconds."""
    return _true(call("load_at_rate"))


def _true(answer: object) -> bool:
    return answer is True
