"""Who may open a connection to whom: what the manifests' NetworkPolicies say, by component.

That somebody cannot reach a pod whom a policy keeps away anyway says nothing about a fault.
"""

from collections.abc import Mapping

from resilience.backend.kubernetes.manifests import NAMESPACES
from resilience.spec.rabbitmq import DISTRIBUTION_PORT
from resilience.spec.stack import PORTS

_CLIENTS = frozenset({"harmonyflow", "monitoring"})  # of stores
_ALLOWED: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # namespaces, and components whatever their namespace
    "redis": (_CLIENTS, frozenset({"redis"})),
    "postgresql": (_CLIENTS, frozenset({"postgresql", "pgbouncer"})),
    "pgbouncer": (_CLIENTS, frozenset()),
    "wal-archive": (frozenset(), frozenset({"postgresql"})),
    "session": (frozenset({"monitoring"}), frozenset({"edge"})),
    "collaboration": (frozenset({"monitoring"}), frozenset({"edge"})),
    "content": (frozenset({"monitoring"}), frozenset({"edge"})),
    "personalization": (frozenset({"monitoring"}), frozenset({"edge"})),
    "edge": (frozenset(NAMESPACES.values()), frozenset()),
    "rabbitmq": (_CLIENTS, frozenset({"rabbitmq"})),
}
_OBSERVERS = (frozenset({"monitoring"}), frozenset[str]())  # what everything else is reached by


def may_reach(via: str, to: str) -> bool:
    """Whether pods of one component may open connections to pods of another."""
    namespaces, components = _ALLOWED.get(to, _OBSERVERS)
    return NAMESPACES[via] in namespaces or via in components


def door(via: str, to: str) -> int:
    """The port by which packets between pods of two components are seen to pass."""
    return DISTRIBUTION_PORT if via == to == "rabbitmq" else PORTS[to]


def is_open_throughout(via: str, to: str) -> bool:
    """Whether it is open whenever the server runs: a RabbitMQ member in a minority closes that of its clients."""
    return to != "rabbitmq" or via == to
