"""The numbers of a judgement, put together from those of its findings.

Several findings may measure the same thing, each for its shard or kind of key: counts (``…_ops``) are added up, of
``durability.lost_newest_s`` and the like the smallest counts, of everything else the largest, which is the worst; an
objective that asks for at least so much takes the smallest (`check.slo`).
"""

from collections.abc import Iterable

from resilience.check.finding import Finding

_SMALLEST = frozenset({"durability.lost_newest_s", "durability.lost_in_window_newest_s"})


def combined(findings: Iterable[Finding]) -> dict[str, float]:
    """All measures of these findings by their names."""
    measures: dict[str, float] = {}
    for finding in findings:
        for name, value in finding.measures.items():
            measures[name] = _together(name, measures[name], value) if name in measures else value
    return measures


def is_summed(name: str) -> bool:
    """Whether what several findings measured by this name is added up."""
    return name.endswith("_ops")


def _together(name: str, one: float, other: float) -> float:
    if is_summed(name):
        return one + other
    return min(one, other) if name in _SMALLEST else max(one, other)
