"""Who may open a connection to whom: what the manifests' NetworkPolicies say, by component.

That somebody cannot reach a pod whom a policy keeps away anyway says nothing about a fault.
"""

from collections.abc import Mapping

from resilience.backend.kubernetes.manifests import NAMESPACES

_REDIS_CLIENTS = frozenset({"harmonyflow", "monitoring"})
_ALLOWED: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {  # namespaces, and components whatever their namespace
    "redis": (_REDIS_CLIENTS, frozenset({"redis"})),
    "session": (frozenset({"monitoring"}), frozenset({"edge"})),
    "collaboration": (frozenset({"monitoring"}), frozenset({"edge"})),
    "edge": (frozenset(NAMESPACES.values()), frozenset()),
}
_OBSERVERS = (frozenset({"monitoring"}), frozenset[str]())  # what everything else is reached by


def may_reach(via: str, to: str) -> bool:
    """Whether pods of one component may open connections to pods of another."""
    namespaces, components = _ALLOWED.get(to, _OBSERVERS)
    return NAMESPACES[via] in namespaces or via in components
