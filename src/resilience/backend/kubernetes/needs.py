"""What a stack asks for in a cluster: the requests of its workloads and volumes, summed. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from resilience.backend.kubernetes.api import Object

ROLE = "harmonyflow.dev/role"  # on nodes, and in the selectors of all that is put on them


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is requested; all nodes of a kind cluster share one machine's memory, but each shows all its processors."""

    memory_bytes: int
    node_processors: float  # of the node that most is asked of, pods being spread evenly over the nodes of a role
    storage_bytes: int


def needs_of(objects: Sequence[Object], nodes: Mapping[str, int]) -> Needs:
    """The sum over these objects; ``nodes``: how many there are of each role."""
    processors: dict[str, Fraction] = defaultdict(Fraction)
    memory = storage = Fraction(0)
    for item in objects:
        pods, role = pods_of(item, nodes), _role(item)
        processors[role] += pods * _requested(item, "cpu") / max(1, nodes.get(role, 1))
        memory += pods * _requested(item, "memory")
        storage += storage_of(item, nodes)
    return Needs(
        memory_bytes=int(memory), node_processors=float(max(processors.values(), default=0)), storage_bytes=int(storage)
    )


def images_of(objects: Sequence[Object]) -> set[str]:
    """The images of all containers."""
    kinds = ("initContainers", "containers")
    return {one["image"] for item in objects for kind in kinds for one in _pod_spec(item).get(kind, ())}


def nodes_by_role(config: Mapping[str, Any]) -> Mapping[str, int]:
    """How many nodes of each role a kind cluster's configuration has."""
    return Counter(node["labels"][ROLE] for node in config["nodes"] if ROLE in node.get("labels", {}))


def _pod_spec(item: Object) -> Object:
    spec: Object = item.get("spec", {})
    return spec if item["kind"] == "Pod" else spec.get("template", {}).get("spec", {})


def containers_of(item: Object) -> Sequence[Object]:
    """What runs side by side in each pod that an object makes; none if it makes none."""
    found: Sequence[Object] = _pod_spec(item).get("containers", ())
    return found


def storage_of(item: Object, nodes: Mapping[str, int]) -> Fraction:
    """The bytes of all volumes that an object asks for."""
    return pods_of(item, nodes) * sum(map(_storage, _claims(item)), Fraction(0))


def pods_of(item: Object, nodes: Mapping[str, int]) -> int:
    """How many pods an object makes; of what makes none there is one."""
    if item["kind"] == "DaemonSet":
        return nodes.get(_role(item), 0)
    return int(item.get("spec", {}).get("replicas", 1))


def _role(item: Object) -> str:
    return str(_pod_spec(item).get("nodeSelector", {}).get(ROLE, ""))


def _requested(item: Object, what: str) -> Fraction:
    """By one pod."""
    requests = [one.get("resources", {}).get("requests", {}) for one in containers_of(item)]
    return sum((quantity(asked[what]) for asked in requests if what in asked), Fraction(0))


def _claims(item: Object) -> Iterator[Object]:
    if item["kind"] == "PersistentVolumeClaim":
        yield item
    if item["kind"] == "StatefulSet":
        yield from item["spec"].get("volumeClaimTemplates", ())


def _storage(claim: Object) -> Fraction:
    return quantity(claim["spec"]["resources"]["requests"]["storage"])


def quantity(text: Any) -> Fraction:
    """A quantity as Kubernetes writes it, e.g. ``64Mi``, ``100m``."""
    from kubernetes.utils.quantity import parse_quantity  # a second to import, which no local run has to wait for

    return Fraction(parse_quantity(text))  # type: ignore[no-untyped-call]
