"""Recovery of PostgreSQL: how long nobody could write to it, and how much of that was the operator's.

::

    took effect        the operator begins      another primary     first good write
    |──────────────────|────────────────────────|───────────────────|
     operator_s ───────▶recovery_s ─────────────────────────────────▶
     first_good_write_s ────────────────────────────────────────────▶

Where a standby is promoted by hand, people wait for a person first (``postgresql.failover.operator_delay_s``), and only
then for the platform. Each way on which rows are written is judged for itself: the one through a PgBouncer ends when
that has been led elsewhere. PostgreSQL is *hit* if its primary is among an injection's members, if another one is
promoted by hand, or if so many standbys are among them that commits have too few left to wait for; a way through a
PgBouncer also if one of those is. Where Patroni fails over, it is hit as well if etcd is left without a majority: then
nobody may be primary. A primary that is taken away is missed on every way: without any outage it was not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from resilience.check import needs
from resilience.check.fault import (
    POSTGRESQL,
    SECOND_US,
    Applied,
    HitShard,
    hit_postgresql,
    injections,
    promoted_at,
    promotions,
)
from resilience.check.finding import Finding
from resilience.check.left_alone import left_alone
from resilience.check.outage import Outage, longest, outages_of_rows, where
from resilience.check.text import count, seconds
from resilience.check.way import WORDS, rows_by
from resilience.history.read import History
from resilience.history.way import WAYS, Way
from resilience.spec.fault import takes_away
from resilience.spec.scenario import Scenario

NAME = "recovery.postgresql"
_RESTS_ON = needs.WHOLE + needs.LOAD + needs.TIMING + needs.PRIMARY


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """The injection that PostgreSQL suffered from, and in which way."""

    injection: Applied
    how: str
    missed: bool = False  # whether nobody can be served meanwhile


def recovery_of_rows(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """A finding for each way on which rows are written."""
    return tuple(_judged(scenario, history, way) for way in WAYS)


def _judged(scenario: Scenario, history: History, way: Way) -> Finding:
    found = outages_of_rows(scenario, history, way)
    hit = next(_hits(scenario, history, way), None)
    if not rows_by(history.ops, way).any():
        title, reason = f"{WORDS[way]} could not be judged", "no row was sent on this way"
        return Finding(check=NAME, verdict="inconclusive", title=title, reason=reason, rests_on=_RESTS_ON)
    if hit is None:
        return _spared(history, way, longest(found))
    since = tuple(outage for outage in found if outage.end > hit.injection.began)
    unended = longest(tuple(outage for outage in since if not outage.ended))
    return _restored(history, way, hit, unended or longest(since))


def _hits(scenario: Scenario, history: History, way: Way) -> Iterator[Hit]:
    """What a way suffered from, what explains most first."""
    for one in hit_postgresql(history):
        missed = one.primary not in one.injection.before and _is_missed(scenario)
        yield Hit(injection=one.injection, how=f"the primary {one.primary} was hit", missed=missed)
    if promotions(history):
        yield from (Hit(injection=one, how="another primary was promoted by hand") for one in injections(history)[:1])
    for injection in injections(history):
        if short := _too_few(scenario, injection):
            yield Hit(injection=injection, how=short)
    for injection in injections(history):
        if _no_majority(scenario, injection):
            yield Hit(injection=injection, how="etcd was left without a majority")
    pgbouncers = {member.name for member in scenario.stack.of("pgbouncer")}
    for injection in injections(history) if way == "pgbouncer" else ():
        if hit := sorted(pgbouncers & set(injection.members)):
            yield Hit(injection=injection, how=f"{', '.join(hit)} was hit")


def _is_missed(scenario: Scenario) -> bool:
    return scenario.experiment is not None and takes_away(scenario.experiment.fault)


def _too_few(scenario: Scenario, injection: Applied) -> str:
    """That an injection left too few standbys to what a commit waits for, "" if it did not."""
    tier = scenario.stack.postgresql
    if tier is None:
        return ""
    left = len(set(tier.members) - set(injection.members)) - 1  # the primary is not among them
    wanted = tier.standbys_waited_for
    return f"commits wait for {count(wanted, 'standby')}, and {left} were left" if left < wanted else ""


def _no_majority(scenario: Scenario, injection: Applied) -> bool:
    """Whether so many members of etcd suffered that the others decide nothing."""
    etcd = {member.name for member in scenario.stack.of("etcd")}
    return bool(etcd) and 2 * len(etcd - set(injection.members)) <= len(etcd)


def _restored(history: History, way: Way, hit: Hit, outage: Outage | None) -> Finding:
    ended = outage is None or outage.ended
    measures = _measures(history, hit.injection, outage)
    reason = "" if outage is None or ended else f"no row was written in the last {seconds(outage.length_s)} of the load"
    strange = "no outage where the primary was taken away: the fault had no effect" if hit.missed and not outage else ""
    return Finding(
        check=NAME,
        verdict="fail" if not ended else "inconclusive" if strange else "pass",
        title=f"{WORDS[way]} were written again after {hit.how}",
        measured=_measured(measures),
        allowed="rows are written again before the load ends",
        value=measures.get(f"{NAME}.first_good_write_s"),
        unit="s",
        reason=reason or strange,
        where=where("postgresql", outage),
        rests_on=_RESTS_ON + needs.FAULT,
        evidence=tuple({"what": name, "value": value} for name, value in measures.items()),
        evidence_total=len(measures),
        measures=measures,
    )


def _measures(history: History, injection: Applied, outage: Outage | None) -> dict[str, float]:
    """What is known of the recovery, in seconds; the instants count from that at which the fault took effect."""
    if outage is None:  # every write was served: there was nothing to wait for
        told = {"outage_s": 0.0, "outage_error_s": 0.0, "first_good_write_s": 0.0, "recovery_s": 0.0}
        return {f"{NAME}.{name}": value for name, value in told.items()}
    told = {"outage_s": outage.length_s, "outage_error_s": outage.error_s}
    operator, promoted = _operator_began(history, injection), _promoted_at(history, injection)
    waits_until = injection.applied
    if operator is not None and outage.start <= operator < outage.end:
        waits_until = operator
        told["operator_s"] = _since(injection.applied, operator)
    if promoted is not None:
        told["promoted_s"] = _since(injection.applied, promoted)
    if outage.ended:
        told["first_good_write_s"] = _since(injection.applied, outage.end)
        told["recovery_s"] = _since(waits_until, outage.end)
    return {f"{NAME}.{name}": value for name, value in told.items()}


def _since(begin_us: int, end_us: int) -> float:
    return (end_us - begin_us) / SECOND_US


def _operator_began(history: History, injection: Applied) -> int | None:
    """When somebody began to promote a standby by hand after an injection, None if nobody did."""
    began = (int(event.data["began_us"]) for event in promotions(history))
    return min((at for at in began if at >= injection.began), default=None)


def _promoted_at(history: History, injection: Applied) -> int | None:
    of_it = [one for one in hit_postgresql(history) if one.injection == injection]
    return (
        promoted_at(history, HitShard(group=POSTGRESQL, primary=of_it[0].primary, injection=injection))
        if of_it
        else None
    )


def _measured(measures: dict[str, float]) -> str:
    value = {name.removeprefix(f"{NAME}."): seconds(number) for name, number in measures.items()}
    least = seconds(measures[f"{NAME}.outage_s"] - measures[f"{NAME}.outage_error_s"])
    parts = [f"outage {least} to {value['outage_s']}"]
    if "operator_s" in value:
        parts.append(f"the operator began after {value['operator_s']}")
    if "promoted_s" in value:
        parts.append(f"another primary {value['promoted_s']}")
    if "recovery_s" in value:
        parts.append(f"first good write {value['first_good_write_s']}, {value['recovery_s']} without the operator's")
    return ", ".join(parts)


def _spared(history: History, way: Way, outage: Outage | None) -> Finding:
    return left_alone(
        history,
        outage,
        check=NAME,
        title=f"{WORDS[way]} were written all the time, since PostgreSQL was left alone",
        lack="no row was written",
        where=where("postgresql", outage),
        rests_on=_RESTS_ON,
    )
