"""Convergence of PostgreSQL: after healing all members are on one timeline, and hold the same.

Once nobody writes any more the primary says how far it has come. Every other member has to replay that much, on the
same timeline, and the load's table has to add up to the same on all of them (`resilience.stack.postgresql_copies`). A
member that does not answer holds nobody knows what: that is inconclusive, where nothing else is amiss.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from resilience.check import needs
from resilience.check.finding import Finding, Where
from resilience.check.text import count
from resilience.history.read import History
from resilience.spec.scenario import Scenario


def convergence_of_postgresql(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all members."""
    events = history.events_of("copies")
    data: Mapping[str, Any] = events[-1].data if events else {}
    members: Mapping[str, Mapping[str, Any]] = data.get("members", {})
    tier = scenario.stack.postgresql
    silent = [name for name in (tier.members if tier else ()) if name not in members]
    amiss = list(_amiss(data, members))
    unknown = _unknown(data, silent)
    return (
        Finding(
            check="convergence.postgresql",
            verdict="fail" if amiss else "inconclusive" if unknown else "pass",
            title="All members of PostgreSQL are on one timeline and hold the same",
            measured=_measured(members),
            allowed="one timeline, all that the primary has written, the same rows",
            value=float(len(amiss)),
            unit="differences",
            reason="; ".join(amiss) or unknown,
            where=Where(group="postgresql"),
            rests_on=needs.WHOLE + needs.FAULT,
            evidence=tuple({"what": "copy", "member": name} | dict(copy) for name, copy in members.items()),
            evidence_total=len(members),
        ),
    )


def _amiss(data: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What members differ in from the primary; nothing if that did not say."""
    primary, written = str(data.get("primary", "")), int(data.get("written", 0))
    if primary not in members:
        return
    of_primary = members[primary]
    for name, copy in members.items():
        if copy["timeline"] != data["timeline"]:
            yield f"{name} is on timeline {copy['timeline']}, {primary} was on {data['timeline']}"
        elif (replayed := int(copy.get("replayed") or 0)) < written:
            yield f"{name} has replayed {replayed} of {written} bytes"
        elif (copy["rows"], copy["digest"]) != (of_primary["rows"], of_primary["digest"]):
            same = " that add up to something else" if copy["rows"] == of_primary["rows"] else ""
            yield f"{name} holds {count(copy['rows'], 'row')}{same}, {primary} {of_primary['rows']:,}"


def _unknown(data: Mapping[str, Any], silent: list[str]) -> str:
    """Why it is not known what all hold, "" if it is."""
    told = "; ".join(map(str, data.get("reasons", ())))
    if not data:
        return "the members were not compared"
    if not data.get("primary"):
        return told or "nobody was found to be the primary"
    return told or f"{', '.join(silent)} did not say what it holds" if silent else ""


def _measured(members: Mapping[str, Mapping[str, Any]]) -> str:
    timelines = sorted({copy["timeline"] for copy in members.values()})
    rows = sorted({copy["rows"] for copy in members.values()})
    if not members:
        return "no member said what it holds"
    held, on = (" or ".join(f"{number:,}" for number in numbers) for numbers in (rows, timelines))
    return f"{count(len(members), 'member')} on timeline {on}, {held} rows each"
