"""What the ResourceQuotas of a namespace leave for a stack: which leaves too little of what, and how much. Pure.

Admission refuses what does not fit pod by pod, which shows as pods that are missing; here it is told before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

from resilience.backend.kubernetes.api import Object
from resilience.backend.kubernetes.needs import containers_of, pods_of, quantity, storage_of

_MIB = 1024**2
_OF_EACH: Mapping[str, tuple[str, str]] = {  # what a quota counts of every container, and where that one names it
    "cpu": ("requests", "cpu"),
    "memory": ("requests", "memory"),
    "requests.cpu": ("requests", "cpu"),
    "requests.memory": ("requests", "memory"),
    "limits.cpu": ("limits", "cpu"),
    "limits.memory": ("limits", "memory"),
}
_BYTES = frozenset({"memory", "requests.memory", "limits.memory", "requests.storage"})


def lacks_quota(
    quotas: Sequence[Object], wanted: Sequence[Object], there: Sequence[Object], nodes: Mapping[str, int]
) -> Iterator[str]:
    """A line for each resource of which a quota leaves too little for what is ``wanted`` in its namespace.

    ``there``: pods of the stack's that run there already, and go before others come. A quota for some pods alone
    (``scopes``) is not looked at: admission decides which these are.
    """
    for quota in quotas:
        spec, used = quota.get("spec", {}), quota.get("status", {}).get("used", {})
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        named = f"ResourceQuota {quota['metadata']['namespace']}/{quota['metadata']['name']}"
        for resource, hard in spec.get("hard", {}).items():
            if resource in _OF_EACH and (unnamed := _without(resource, wanted)):
                yield f"{named} counts {resource}, which {', '.join(unnamed)} names none of: no such pod is let in"
            elif count := _COUNTED.get(resource):
                needs = count(wanted, nodes)
                others = max(quantity(used.get(resource, 0)) - count(there, nodes), Fraction(0))
                if (lack := needs + others - quantity(hard)) > 0:
                    taken = f", of which others take {_told(resource, others)}" if others else ""
                    yield (
                        f"{named} leaves {_told(resource, lack)} of {resource} too little for the"
                        f" {_told(resource, needs)} that are needed (it has {_told(resource, quantity(hard))}{taken})"
                    )


def _without(resource: str, wanted: Sequence[Object]) -> list[str]:
    """The containers that do not say how much of it they take."""
    kind, name = _OF_EACH[resource]
    return sorted(
        {
            one["name"]
            for item in wanted
            for one in containers_of(item)
            if name not in one.get("resources", {}).get(kind, {})
        }
    )


def _taken(resource: str) -> Callable[[Sequence[Object], Mapping[str, int]], Fraction]:
    kind, name = _OF_EACH[resource]

    def count(items: Sequence[Object], nodes: Mapping[str, int]) -> Fraction:
        each = [
            pods_of(item, nodes) * quantity(one.get("resources", {}).get(kind, {}).get(name, 0))
            for item in items
            for one in containers_of(item)
        ]
        return sum(each, Fraction(0))

    return count


def _pods(items: Sequence[Object], nodes: Mapping[str, int]) -> Fraction:
    return Fraction(sum(pods_of(item, nodes) for item in items if containers_of(item)))


def _storage(items: Sequence[Object], nodes: Mapping[str, int]) -> Fraction:
    return sum((storage_of(item, nodes) for item in items), Fraction(0))


_COUNTED: Mapping[str, Callable[[Sequence[Object], Mapping[str, int]], Fraction]] = {
    **{resource: _taken(resource) for resource in _OF_EACH},
    "pods": _pods,
    "count/pods": _pods,
    "requests.storage": _storage,
}


def _told(resource: str, amount: Fraction) -> str:
    return f"{float(amount) / _MIB:.0f} MiB" if resource in _BYTES else f"{float(amount):g}"
