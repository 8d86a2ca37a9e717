"""Convergence: after healing everybody agrees on one whole stack again.

What is waited for stands in `resilience.stack.converge`: every member runs and answers, every view of the Redis Cluster
names the same one owner for each of the 16,384 slots and takes nobody for failing, every replica has acknowledged what
its primary has written, and the services are well. That every client of a room ends with what is stored is judged by
``collaboration.delivery``.
"""

from resilience.check import needs
from resilience.check.fault import SECOND_US, injections
from resilience.check.finding import Finding
from resilience.check.text import seconds
from resilience.history.read import History
from resilience.history.record import Event
from resilience.spec.scenario import Scenario


def convergence(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding for the whole stack."""
    del scenario
    events = history.events_of("converged")
    if not events:
        return (_finding(reason="whether the stack converged is not on record"),)
    end = events[-1]
    ok, reason = bool(end.data.get("ok")), str(end.data.get("reason", ""))
    after_s = _after_s(history, end)
    measured = f"whole again {seconds(after_s)} after {'healing' if injections(history) else 'the load'}"
    return (_finding(measured if ok else "not whole", "" if ok else reason or "it says no reason", after_s, ok=ok),)


def _after_s(history: History, end: Event) -> float:
    """Seconds from the last healing (without a fault from the beginning of the look) to the end of the waiting."""
    healed = [injection.healed for injection in injections(history) if injection.healed is not None]
    since = max(healed) if healed else end.at - int(float(end.data.get("took_s", 0.0)) * SECOND_US)
    return (end.at - since) / SECOND_US


def _finding(measured: str = "", reason: str = "", after_s: float | None = None, *, ok: bool | None = None) -> Finding:
    return Finding(
        check="convergence",
        verdict="inconclusive" if ok is None else "pass" if ok else "fail",
        title="Everybody agrees on one whole stack again",
        measured=measured,
        allowed="one owner for each slot in every view, replicas caught up, all members well",
        value=after_s,
        unit="s",
        reason=reason,
        rests_on=needs.WHOLE + needs.FAULT,
        measures={"convergence.after_s": after_s} if ok and after_s is not None else {},
    )
