"""Expiry: a live session is forgotten when nobody has written to it for its time to live, neither sooner nor later.

Every write renews the time to live in the same step in which it becomes the newest row of the session's log
(`services/lua/session.lua`); nothing else does. So a live session's rest at the instant of the audit follows from that
row alone, whatever became of writes that are not in the log::

    the row's op: called ├────┤ returned      the audit of the sessions: begun ├────┤ done

    ttl - (done - called) - SLACK_S   <=   rest   <=   ttl - (begun - returned) + SLACK_S

If nobody was told how that op ended, it may have been carried out at any time until then: rest <= ttl. If it is not on
record at all, nothing more can be said. What the replicas hold is compared with this (``convergence.replicas``).

A session whose time had run out by then may be gone: that is no loss (`expired`).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from resilience.check import needs
from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.fault import SECOND_US, load_end_us
from resilience.check.finding import Finding
from resilience.check.text import count
from resilience.history.columns import FAIL, OK, are_among
from resilience.history.read import History
from resilience.history.record import SessionRead
from resilience.spec.scenario import Scenario

SLACK_S = 1.0  # Redis rounds to whole seconds, and as much again for the clocks of several machines
NO_TTL = -1  # Redis' answer for a key that never expires
_EVIDENCE_MAX = 200

Renewal = tuple[int, int | None]  # when a write was called, and when its success was answered (us)


def expiry(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all sessions that the audit found alive."""
    read_at = audited_at(history)
    alive = [read for read in history.audit.sessions.values() if read.state == "live"]
    wrong = list(_wrong(scenario, history, alive, read_at)) if read_at is not None else []
    gone = len(expired(scenario, history))
    reason = _reason(alive, wrong, gone, read_at)
    return (
        Finding(
            check="session.expiry",
            verdict="fail" if wrong else "inconclusive" if reason else "pass",
            title="Live sessions have the time to live that they were promised",
            measured=f"{len(wrong):,} of {count(len(alive), 'live session')} have not; {gone:,} expired",
            allowed=f"{scenario.stack.session_ttl_s:,} s, less what has passed since the last write",
            value=float(len(wrong)),
            unit="sessions",
            reason=reason,
            rests_on=needs.AUDIT + needs.RECORD + needs.CLOCK + (() if wrong else needs.FAULT),
            evidence=tuple(wrong[:_EVIDENCE_MAX]),
            evidence_total=len(wrong),
            measures={"session.expired": float(gone), "session.wrong_ttl": float(len(wrong))},
        ),
    )


def audited_at(history: History) -> int | None:
    """The instant (us) at which all sessions had been read back; None if they were not."""
    return max((done.at for done in history.audit.done if done.kind == "session"), default=None)


def expired(scenario: Scenario, history: History) -> frozenset[str]:
    """Sessions that are not there, and whose time to live had run out when they were looked for.

    A write that may have been carried out counts as one: it would have renewed the time.
    """
    read_at = audited_at(history)
    if read_at is None:
        return frozenset()
    limit = read_at - scenario.stack.session_ttl_s * SECOND_US
    last = _last_write(history)
    return frozenset(
        key
        for key, read in history.audit.sessions.items()
        if not read.exists and not read.log and last.get(key, read_at) <= limit
    )


def _last_write(history: History) -> dict[str, int]:
    """When the last write to each session was answered, or called if it never was (us); refused ones left out."""
    ops = history.ops
    writes = ops.of_kind(*SESSION_WRITES) & (ops.outcome != FAIL)
    last = np.zeros(len(ops.keys), dtype=np.int64)
    np.maximum.at(last, ops.key[writes], np.maximum(ops.returned[writes], ops.called[writes]))
    codes = np.unique(ops.key[writes])
    return dict(zip(ops.keys[codes].tolist(), last[codes].tolist(), strict=True))


def _wrong(
    scenario: Scenario, history: History, alive: Sequence[SessionRead], read_at: int
) -> Iterator[dict[str, object]]:
    renewals, begun = _renewals(history, alive), _audit_begun(history, read_at)
    for read in alive:
        least_s, most_s = _right(scenario.stack.session_ttl_s, renewals.get(_newest(read)), begun, read_at)
        if read.ttl_s == NO_TTL:
            yield {"what": "never expires", "key": read.key, "detail": "it has no time to live"}
        elif not least_s <= read.ttl_s <= most_s:
            detail = f"{read.ttl_s} s are left, {max(least_s, 0):.1f} to {most_s:.1f} s are right after its last write"
            yield {"what": "wrong time to live", "key": read.key, "detail": detail}


def _right(ttl_s: int, renewal: Renewal | None, begun: int, read_at: int) -> tuple[float, float]:
    """The least and the most (s) that may be left of a time to live that was renewed so."""
    if renewal is None:
        return 0.0, ttl_s
    called, returned = renewal
    most_s = ttl_s if returned is None else min(ttl_s, ttl_s - (begun - returned) / SECOND_US + SLACK_S)
    return ttl_s - (read_at - called) / SECOND_US - SLACK_S, most_s


def _newest(read: SessionRead) -> str:
    """The op of the newest row of a session's log, "" if there is none."""
    return read.log[-1][1] if read.log else ""


def _renewals(history: History, alive: Sequence[SessionRead]) -> Mapping[str, Renewal]:
    """The newest op of each session, if it is on record."""
    ops, newest = history.ops, {_newest(read) for read in alive}
    keys = {read.key for read in alive}
    rows = np.flatnonzero(ops.of_kind(*SESSION_WRITES) & are_among(ops.keys, keys)[ops.key]) if len(ops) else ()
    return {
        value: (int(ops.called[row]), int(ops.returned[row]) if ops.outcome[row] == OK else None)
        for row in rows
        if (value := str(ops.value[row])) in newest
    }


def _audit_begun(history: History, read_at: int) -> int:
    """Before this instant (us) no session was read back: the direct keys are first, and the load has ended by then."""
    direct = (done.at for done in history.audit.done if done.kind == "direct" and done.at <= read_at)
    return max(direct, default=load_end_us(history))


def _reason(alive: Sequence[SessionRead], wrong: Sequence[dict[str, object]], gone: int, read_at: int | None) -> str:
    if read_at is None:
        return "the sessions were not read back"
    if wrong:
        return f"{count(len(wrong), 'session')}, the first: {wrong[0]['key']}: {wrong[0]['detail']}"
    return "" if alive or gone else "no session was alive at the end"
