"""Whoever no injection hit is served all the time: an outage of theirs is nobody's, and so a fault of the platform."""

from resilience.check import needs
from resilience.check.fault import injections
from resilience.check.finding import Finding, Where
from resilience.check.outage import Outage
from resilience.check.recovery import UNEXPECTED_OUTAGE_S
from resilience.check.text import seconds
from resilience.history.read import History


def left_alone(
    history: History,
    outage: Outage | None,
    *,
    check: str,
    title: str,
    lack: str,
    where: Where,
    rests_on: tuple[str, ...],
) -> Finding:
    """What the longest outage of somebody who was left alone says, None if there was none; ``lack`` is what did not
    come to pass in it. A moment (`UNEXPECTED_OUTAGE_S`) is a busy machine.
    """
    length_s = outage.length_s if outage else 0.0
    long = length_s > UNEXPECTED_OUTAGE_S
    return Finding(
        check=check,
        verdict="fail" if long else "pass",
        title=title,
        measured=f"longest outage {seconds(length_s)}" if outage else "no outage",
        allowed=f"≤ {seconds(UNEXPECTED_OUTAGE_S)}",
        value=length_s,
        unit="s",
        reason=f"{lack} for {seconds(length_s)}, which nothing excuses" if long else "",
        where=where,
        rests_on=rests_on + (needs.FAULT if injections(history) else ()),
        measures={f"{check}.spared_outage_s": length_s},
    )
