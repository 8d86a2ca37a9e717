"""Convergence of PostgreSQL: after healing all members are on one timeline, and hold the same.

Once nobody writes any more the primary says how far it has come. Every other member has to replay that much, on the
same timeline, and each table has to add up to the same on all of them (`resilience.stack.postgresql_copies`). A member
that does not answer holds nobody knows what, and that all hold nothing of what the load has written to says nothing:
both are inconclusive, where nothing else is amiss.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from resilience.check import needs
from resilience.check.fault import too_early
from resilience.check.finding import Finding, Where
from resilience.check.text import count
from resilience.history.columns import OK
from resilience.history.read import History
from resilience.history.record import ACKED_LOCALLY, MISMATCH
from resilience.history.transaction import KIND as LIST_KIND
from resilience.history.transaction import TABLE
from resilience.history.way import KIND
from resilience.spec.scenario import Scenario

ROWS, REGISTERS, LISTS = "written", "registers", TABLE  # the load's tables
NO_TABLE = "no table"  # the digest of a member that had none, in older records
_KINDS = {ROWS: (KIND,), REGISTERS: ("register.write", "register.swap"), LISTS: (LIST_KIND,)}


def convergence_of_postgresql(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all members."""
    events = history.events_of("copies")
    data: Mapping[str, Any] = events[-1].data if events else {}
    members: Mapping[str, Mapping[str, Any]] = data.get("members", {})
    tier = scenario.stack.postgresql
    silent = [name for name in (tier.members if tier else ()) if name not in members]
    amiss = list(_amiss(data, members))
    unknown = "; ".join(_unknown(history, data, silent))
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
            evidence=tuple(_item(name, copy) for name, copy in members.items()),
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
        else:
            yield from _other_tables(name, _tables(copy), primary, _tables(of_primary))


def _tables(copy: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """What a member holds by table; older records tell of one only."""
    if "tables" in copy:
        tables: Mapping[str, Mapping[str, Any]] = copy["tables"]
        return tables
    one = {"rows": copy.get("rows", 0), "digest": copy.get("digest", NO_TABLE)}
    return {} if one["digest"] == NO_TABLE else {ROWS: one}


def _other_tables(
    name: str, tables: Mapping[str, Mapping[str, Any]], primary: str, of_primary: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    for table in sorted({*tables, *of_primary}):
        held, wanted = tables.get(table), of_primary.get(table)
        if held is None or wanted is None:
            yield f"{name if held is None else primary} has no table {table}"
        elif (held["rows"], held["digest"]) != (wanted["rows"], wanted["digest"]):
            same = " that add up to something else" if held["rows"] == wanted["rows"] else ""
            yield f"{name} holds {count(held['rows'], 'row')} of {table}{same}, {primary} {wanted['rows']:,}"


def _unknown(history: History, data: Mapping[str, Any], silent: list[str]) -> Iterator[str]:
    """Why it is not known what all hold, or why that says nothing."""
    told = "; ".join(map(str, data.get("reasons", ())))
    if not data:
        yield "the members were not compared"
        return
    if not data.get("primary"):
        yield told or "nobody was found to be the primary"
        return
    if told or silent:
        yield told or f"{', '.join(silent)} did not say what it holds"
    if early := too_early(history, "copies"):
        yield f"the members were compared {early}"
    if not data.get("written"):
        yield "how far the primary had come is not on record"
    yield from _empty(history, data)


def _empty(history: History, data: Mapping[str, Any]) -> Iterator[str]:
    """Tables that the load has written to, and of which the primary has no row that others could lack."""
    primary, members = data["primary"], data.get("members", {})
    held = _tables(members[primary]) if primary in members else {}
    wanted = [table for table, kinds in _KINDS.items() if _acked(history, kinds)]
    if not wanted:
        yield "nothing was acknowledged that members could hold"
    for table in wanted if primary in members else ():
        if not held.get(table, {}).get("rows"):
            yield f"{primary} told of no row of {table}, to which the load has written"


def _acked(history: History, kinds: tuple[str, ...]) -> bool:
    """Whether a write of these kinds was carried out, as far as its client was told."""
    ops = history.ops
    done = (ops.outcome == OK) & ~ops.with_error(MISMATCH) & ~ops.with_error(ACKED_LOCALLY)
    return bool((ops.of_kind(*kinds) & done).any())


def _measured(members: Mapping[str, Mapping[str, Any]]) -> str:
    if not members:
        return "no member said what it holds"
    timelines = sorted({copy["timeline"] for copy in members.values()})
    tables = sorted({table for copy in members.values() for table in _tables(copy)})
    held = [f"{table} {' or '.join(f'{rows:,}' for rows in _rows(members, table))}" for table in tables]
    on = " or ".join(map(str, timelines))
    return f"{count(len(members), 'member')} on timeline {on}, rows each: {', '.join(held) or 'no table'}"


def _rows(members: Mapping[str, Mapping[str, Any]], table: str) -> list[int]:
    """How many rows of a table members have."""
    return sorted({_tables(copy).get(table, {}).get("rows", 0) for copy in members.values()})


def _item(name: str, copy: Mapping[str, Any]) -> dict[str, Any]:
    tables = (f"{table} {held['rows']:,} rows, {held['digest']}" for table, held in _tables(copy).items())
    told = {"timeline": copy["timeline"], "replayed": copy.get("replayed")}
    return {"what": "copy", "member": name} | told | {"tables": "; ".join(tables)}
