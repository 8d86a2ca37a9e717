"""A component is kept from opening connections to another one, by a NetworkPolicy beside those that are there.

::

    {"primitive": "deny", "namespace", "component", "to_namespace", "to_component", "pods": [place, …]}
    {"probe": "denied", "pods": [place, …], "others": [place, …]}     places with ``address`` and ``port``

Policies allow, and what several allow adds up: none that is added can take away what another one allows *in*. But
nobody governs what the stack's services send *out*. So the policy of this injection does, for the denied component
alone: it allows all pods but those of the other component. No policy of anybody else is touched; healing is its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.kubernetes.manifests import COMPONENT, PART_OF
from resilience.backend.machine.connection import ACCEPTED, is_known, opened
from resilience.backend.machine.control_plane import ControlPlane, Place
from resilience.backend.machine.pods import Pods

DENIED_BY = "harmonyflow.dev/denied-by"  # on a NetworkPolicy: the injection that it is of
DENIED_WITHIN_S = 15.0  # until whoever enforces policies on each node has heard of this one
_POLICIES = "/apis/networking.k8s.io/v1"
_NAMED = "kubernetes.io/metadata.name"  # on every namespace: its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """The step."""

    injection_id: str
    namespace: str
    component: str
    to_namespace: str
    to_component: str
    plane: ControlPlane

    @classmethod
    def from_json(cls, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        who = {key: str(data[key]) for key in ("namespace", "component", "to_namespace", "to_component")}
        return cls(injection_id=injection_id, plane=plane, **who)

    def require_possible(self) -> None:
        """Raises `AgentError` where another policy governs what goes out: what that one allows would stay allowed."""
        for found in self.plane.items(f"{_POLICIES}/namespaces/{self.namespace}/networkpolicies"):
            name, by = found["metadata"]["name"], _denied_by(found)
            if by and by != self.injection_id:
                raise AgentError(f"NetworkPolicy {name}: its injection has not ended: {self.plane.heal}")
            if not by and _governs_egress(found):
                raise AgentError(
                    f"NetworkPolicy {name} governs egress in namespace {self.namespace}: what it allows would stay"
                    " allowed, so nothing could be denied"
                )

    def do(self) -> None:
        """Adds the policy. Raises `AgentError`."""
        self.require_possible()
        self.plane.create(f"{_POLICIES}/namespaces/{self.namespace}/networkpolicies", self.policy)

    def undo(self) -> None:
        """Takes it away; harmless if it is gone. Raises `AgentError`."""
        self.plane.remove(policy_path(self.namespace, self.injection_id))

    def undone(self) -> list[Evidence]:
        """It is gone. Raises `AgentError`."""
        return [_stands(self.plane, self.namespace, self.injection_id, "gone")]

    @property
    def policy(self) -> Object:
        """Out to all pods of other namespaces, and of that one to all that are not of the other component."""
        elsewhere = {"key": _NAMED, "operator": "NotIn", "values": [self.to_namespace]}
        others = {"key": COMPONENT, "operator": "NotIn", "values": [self.to_component]}
        labels = {DENIED_BY: self.injection_id}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": self.injection_id, "namespace": self.namespace, "labels": labels},
            "spec": {
                "podSelector": {"matchLabels": {PART_OF: "harmonyflow", COMPONENT: self.component}},
                "policyTypes": ["Egress"],
                "egress": [
                    {"to": [{"namespaceSelector": {"matchExpressions": [elsewhere]}}]},
                    {
                        "to": [
                            {
                                "namespaceSelector": {"matchLabels": {_NAMED: self.to_namespace}},
                                "podSelector": {"matchExpressions": [others]},
                            }
                        ]
                    },
                ],
            },
        }


@dataclass(slots=True)
class Denied:
    """The probe: connections from exactly the denied side fail, and another one's to both sides do not."""

    injection_id: str
    pods: Pods
    others: tuple[Place, ...]
    before: dict[tuple[str, str], str] = field(default_factory=dict)  # what came of each connection, by its ends

    @classmethod
    def from_json(cls, plane: ControlPlane, injection_id: str, data: Mapping[str, Any]) -> Self:
        """Raises `KeyError` or `TypeError`."""
        places, others = tuple(data["pods"]), tuple(data["others"])
        for place in (*places, *others):
            _ = f"{place['address']}:{place['port']}"
        return cls(injection_id, Pods(places, plane), others)

    def prepare(self) -> None:
        """Remembers what could be opened."""
        self.pods.remember()
        self.before = self._connections()

    def in_effect(self) -> list[Evidence]:
        """The policy stands, and does what it says and no more."""
        return self.pods.insist(self._look, DENIED_WITHIN_S)

    def healed(self) -> list[Evidence]:
        """Everything can be opened again, and all are ready."""
        found = self._connections()
        return [*self.pods.ready(), *(evidence(_told(ends), ACCEPTED, said) for ends, said in found.items())]

    def close(self) -> None:
        """Nothing is kept open."""

    def _look(self) -> list[Evidence]:
        found, names = self._connections(), {place["pod"] for place in self.pods.places}
        space = self.pods.places[0]["namespace"]
        return [
            _stands(self.pods.plane, space, self.injection_id, "there"),
            *(self._denied(ends, said) for ends, said in found.items() if ends[0] in names),
            *(evidence(_told(ends), ACCEPTED, said) for ends, said in found.items() if ends[0] not in names),
        ]

    def _denied(self, ends: tuple[str, str], said: str) -> Evidence:
        before = self.before.get(ends, "not looked at")
        ok = is_known(said) and said != ACCEPTED and before == ACCEPTED
        observed = said if before == ACCEPTED else f"{said}, and before the injection: {before}"
        return evidence(_told(ends), "none", observed, ok=ok)

    def _connections(self) -> dict[tuple[str, str], str]:
        """Each denied member's to each of the others, and the witness's to all; every one that opens at once."""
        plane = self.pods.plane
        others, denied = dict(self._addresses(self.others)), dict(self._addresses(self.pods.places))
        asked: list[tuple[Place, dict[str, str]]] = [(place, others) for place in self.pods.places]
        asked.append((plane.witness(), {**others, **denied}))
        with ThreadPoolExecutor(len(asked)) as threads:
            said = list(threads.map(lambda one: opened(plane, one[0], list(one[1].values())), asked))
        return {
            (via["pod"], name): words
            for (via, to), lines in zip(asked, said, strict=True)
            for name, words in zip(to, lines, strict=True)
        }

    def _addresses(self, places: Sequence[Place]) -> Iterator[tuple[str, str]]:
        """Where they are now: one that was made again has another address."""
        for place in places:
            now = self.pods.plane.pod(place)
            yield place["pod"], f"{now.address if now and now.address else place['address']}:{place['port']}"


def denials(api: Api) -> dict[str, str]:
    """The policies of injections, and which one: from nothing but the cluster. Raises `ApiError`."""
    found = api.items(f"{_POLICIES}/networkpolicies", DENIED_BY)
    return {f"{one['metadata']['namespace']}/{one['metadata']['name']}": _denied_by(one) for one in found}


def take_denials_back(api: Api) -> list[str]:
    """Deletes those; which they were. Raises `ApiError`."""
    found = list(denials(api))
    for one in found:
        api.delete(policy_path(*one.split("/", maxsplit=1)))
    return found


def policy_path(namespace: str, name: str) -> str:
    """Where the API has a NetworkPolicy."""
    return f"{_POLICIES}/namespaces/{namespace}/networkpolicies/{name}"


def _stands(plane: ControlPlane, namespace: str, name: str, expected: str) -> Evidence:
    observed = "there" if plane.found(policy_path(namespace, name)) else "gone"
    return evidence(f"NetworkPolicy {name}", expected, observed)


def _told(ends: tuple[str, str]) -> str:
    return f"connection from {ends[0]} to {ends[1]}"


def _denied_by(found: Object) -> str:
    return str((found["metadata"].get("labels") or {}).get(DENIED_BY, ""))


def _governs_egress(found: Object) -> bool:
    """Whether a policy is one of what goes out; without ``policyTypes`` it is if it has such rules."""
    spec = found.get("spec", {})
    return "Egress" in (spec.get("policyTypes") or (["Egress"] if spec.get("egress") else []))
