"""Who reaches whom, held against the NetworkPolicies that are applied."""

from pathlib import Path
from typing import Any

import pytest

from resilience.backend.kubernetes.manifests import NAMESPACES
from resilience.backend.kubernetes.reach import door, is_open_throughout, may_reach
from resilience.backend.kubernetes.tiers import TIERS, manifests_of
from resilience.backend.local.place import PROJECT_ROOT
from resilience.spec.stack import PORTS
from resilience.stack.service import SERVICES
from tests.unit.backend.kubernetes.kustomization import rendered

COMPONENT, SPACE = "app.kubernetes.io/component", "kubernetes.io/metadata.name"
BASE: Path = PROJECT_ROOT / "stacks" / "kubernetes" / "base"
APPLIED = (BASE, *map(manifests_of, TIERS))
STORES = {"redis", *(name for name in NAMESPACES if NAMESPACES[name] in TIERS)}
SERVERS = sorted({*STORES, *SERVICES, "prometheus"})

Object = dict[str, Any]


def selects(selector: Object, component: str) -> bool:
    labels = selector.get("matchLabels", {})
    within = all(component in rule["values"] for rule in selector.get("matchExpressions", ()))
    return within and labels.get(COMPONENT, component) == component


def admits(peer: Object, policy_space: str, via: str) -> bool:
    """Whether a peer of a rule is a pod of this component."""
    if "namespaceSelector" in peer:
        return bool(peer["namespaceSelector"]["matchLabels"][SPACE] == NAMESPACES[via])
    return NAMESPACES[via] == policy_space and selects(peer["podSelector"], via)


def opens(rule: Object, to: str) -> bool:
    """Whether a rule is about a component's own ports, which have names; by a number is meant what others ask it by."""
    ports = [port["port"] for port in rule.get("ports", ())]
    return not ports or any(isinstance(port, str) or port == PORTS.get(to) for port in ports)


def allowed(policies: list[Object], via: str, to: str) -> bool:
    """What the policies say about a connection to a component's own port."""
    rules = [
        (policy["metadata"]["namespace"], rule)
        for policy in policies
        if policy["metadata"]["namespace"] == NAMESPACES[to] and selects(policy["spec"]["podSelector"], to)
        for rule in policy["spec"].get("ingress", ())
        if opens(rule, to)
    ]
    return any("from" not in rule or any(admits(peer, space, via) for peer in rule["from"]) for space, rule in rules)


@pytest.mark.parametrize("to", SERVERS)
@pytest.mark.parametrize("via", sorted(NAMESPACES))
def test_it_is_what_the_policies_say(via: str, to: str):
    policies = [item for folder in APPLIED for item in rendered(folder) if item["kind"] == "NetworkPolicy"]
    assert may_reach(via, to) == allowed(policies, via, to)


@pytest.mark.parametrize(
    ("via", "to", "port", "throughout"),
    [
        ("session", "redis", 6379, True),
        ("redis", "redis", 6379, True),
        ("session", "rabbitmq", 5672, False),  # which a member in a minority closes
        ("rabbitmq", "rabbitmq", 25672, True),
        ("rabbitmq", "edge", 8080, True),
    ],
)
def test_by_which_port_packets_are_seen_to_pass(via: str, to: str, port: int, throughout: bool):
    assert (door(via, to), is_open_throughout(via, to)) == (port, throughout)
