"""The first line of a verdict: what a person who reads nothing else has to know."""

from collections.abc import Iterable

from resilience.check.finding import Finding, Verdict
from resilience.check.measure import combined
from resilience.check.text import count, seconds, span

# what is worse comes first: data, then service, then numbers that explain
_WORST_FIRST = (
    "durability.",
    "session.",
    "collaboration.",
    "order.",
    "linearizability.",
    "isolation.",
    "staleness.",
    "logs",
    "recovery",
    "slo.",
    "availability",
    "latency",
)


def headline(verdict: Verdict, findings: Iterable[Finding]) -> str:
    """One line: of a fail the worst, of an inconclusive run the first reason; of each what was lost in the window."""
    found = tuple(findings)
    lost = _lost_in_window(found)
    known = sorted((finding for finding in found if finding.known), key=_rank)
    if verdict == "fail":
        line = _failed(found)
    elif verdict == "inconclusive":
        line = _inconclusive(found)
    elif known:
        more = f" (and {len(known) - 1} more)" if len(known) > 1 else ""
        line = f"pass: known weakness, seen again: {_said(known[0])}{more}"
    else:
        judged = sum(not finding.check.startswith("assumption.") for finding in found)
        told = (lost or _all_kept(found), _operated(found), f"{count(judged, 'finding')} of checks and objectives")
        return f"pass: {'; '.join(filter(None, told))}, all within bounds"
    return f"{line}; {lost}" if lost else line


def _all_kept(found: tuple[Finding, ...]) -> str:
    """That nothing was lost, "" where nobody has looked for that."""
    looked = any("durability.lost_ops" in finding.measures for finding in found)
    return "no acknowledged write lost" if looked else ""


def _operated(found: tuple[Finding, ...]) -> str:
    """How long people waited for PostgreSQL, and how much of that for a person, "" where nobody did."""
    measures = combined(finding for finding in found if finding.check == "recovery.postgresql")
    if "recovery.postgresql.operator_s" not in measures:
        return ""
    outage, operator = (seconds(measures[f"recovery.postgresql.{name}"]) for name in ("outage_s", "operator_s"))
    return f"no rows of PostgreSQL for {outage}, {operator} of it until the operator began"


def _failed(found: tuple[Finding, ...]) -> str:
    failed = sorted((finding for finding in found if finding.counts_as == "fail"), key=_rank)
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"fail: {_said(failed[0])}{more}"


def _said(first: Finding) -> str:
    """A finding with its place and numbers."""
    place = f"{first.where.group}: " if first.where.group and first.where.group not in first.title else ""
    compared = f": {first.measured}, allowed: {first.allowed}" if first.measured else ""
    return f"{place}{first.title}{compared}"


def _rank(finding: Finding) -> tuple[int, float]:
    place = next((at for at, prefix in enumerate(_WORST_FIRST) if finding.check.startswith(prefix)), len(_WORST_FIRST))
    return place, -(finding.value or 0.0) if finding.check.startswith("durability.") else 0.0


def _inconclusive(found: tuple[Finding, ...]) -> str:
    unsure = [finding for finding in found if finding.verdict == "inconclusive"]
    if not unsure:
        return "inconclusive: nothing was judged"
    first = unsure[0]
    reason = first.reason or "it could not be judged"
    return f"inconclusive: {reason if first.check.startswith('assumption.') else f'{first.title}: {reason}'}"


def _lost_in_window(found: tuple[Finding, ...]) -> str:
    """How many writes were lost within the window and how old they were, "" for none.

    What could not be judged is told all the same: nobody knows then whether it was allowed.
    """
    about = [finding for finding in found if finding.check.startswith("durability.")]
    measures = combined(about)
    lost = int(measures.get("durability.lost_in_window_ops", 0))
    if not lost:
        return ""
    when = span(measures["durability.lost_in_window_newest_s"], measures["durability.lost_in_window_oldest_s"])
    unsure = any(finding.verdict == "inconclusive" for finding in about)
    allowed = "which could not be judged" if unsure else "as async replication allows"
    return f"{count(lost, 'acknowledged write')} lost, acknowledged {when}, {allowed}"
