"""Expiry: a live session is forgotten when nobody has written to it for its time to live, neither sooner nor later.

Every write renews the time to live (`services/lua/session.lua`). So at the instant of the audit a live session's rest
lies between the whole time to live, less what has passed since its first write, and the whole::

    ttl - (audited - first write called) - SLACK_S   <=   rest   <=   ttl

A session whose time had run out by then may be gone: that is no loss (`expired`).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from resilience.check import needs
from resilience.check.assumption.record import SESSION_WRITES
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding
from resilience.check.text import count
from resilience.history.columns import FAIL, Flags, Ints
from resilience.history.read import History
from resilience.history.record import SessionRead
from resilience.spec.scenario import Scenario

SLACK_S = 2.0  # Redis tells whole seconds, and the audit takes a moment
NO_TTL = -1  # Redis' answer for a key that never expires
_EVIDENCE_MAX = 200


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
            allowed=f"{scenario.stack.session_ttl_s:,} s after the last write",
            value=float(len(wrong)),
            unit="sessions",
            reason=reason,
            rests_on=needs.AUDIT + needs.RECORD + (() if wrong else needs.FAULT),
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
    return _by_key(history, writes, last)


def _first_call(history: History) -> dict[str, int]:
    ops = history.ops
    first = np.full(len(ops.keys), np.iinfo(np.int64).max, dtype=np.int64)
    writes = ops.of_kind(*SESSION_WRITES)
    np.minimum.at(first, ops.key[writes], ops.called[writes])
    return _by_key(history, writes, first)


def _by_key(history: History, rows: Flags, values: Ints) -> dict[str, int]:
    """The values of the keys of some ops; they stand in the order of the keys' codes."""
    ops = history.ops
    codes = np.unique(ops.key[rows])
    return dict(zip((ops.keys[code] for code in codes.tolist()), values[codes].tolist(), strict=True))


def _wrong(
    scenario: Scenario, history: History, alive: Sequence[SessionRead], read_at: int
) -> Iterator[dict[str, object]]:
    most, first = scenario.stack.session_ttl_s, _first_call(history)
    for read in alive:
        least = most - (read_at - first.get(read.key, read_at)) / SECOND_US - SLACK_S
        if read.ttl_s == NO_TTL:
            yield {"what": "never expires", "key": read.key, "detail": "it has no time to live"}
        elif not least <= read.ttl_s <= most:
            detail = f"{read.ttl_s} s are left, {max(least, 0):.1f} to {most} s were promised"
            yield {"what": "wrong time to live", "key": read.key, "detail": detail}


def _reason(alive: Sequence[SessionRead], wrong: Sequence[dict[str, object]], gone: int, read_at: int | None) -> str:
    if read_at is None:
        return "the sessions were not read back"
    if wrong:
        return f"{count(len(wrong), 'session')}, the first: {wrong[0]['key']}: {wrong[0]['detail']}"
    return "" if alive or gone else "no session was alive at the end"
