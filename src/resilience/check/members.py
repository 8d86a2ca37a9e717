"""Members: whether a server of the stack died that neither the fault nor the runbook was done to.

Such a death is no miss of its own, since what people got of it is judged by the objectives. But a run in which it
happened is not the run that its scenario describes, so it is no pass either. Of an observer this says why something was
not seen. A fault explains the end of a member that it ends, or that stands still, since whoever watches over it may
start it again; a member that was cut off goes on. A server of PostgreSQL that an operator fences ends by his doing, and
is on record with him. A server that is started again while the stack comes up has cost nobody anything. Of a server
whose start is not on record nobody would have heard that it ended.
"""

from collections.abc import Iterator

from resilience.check import needs
from resilience.check.fault import SECOND_US, Applied, injections
from resilience.check.finding import Finding
from resilience.check.text import count, ended_text
from resilience.history.event import ended_between
from resilience.history.read import History
from resilience.history.record import Event
from resilience.spec.fault import CutReplication, Deny, Isolate, Noop, Partition
from resilience.spec.scenario import Scenario
from resilience.spec.stack import GENERATORS

HEARD_WITHIN_US = SECOND_US  # of a server's end, on a busy machine


def members(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over all members."""
    ups = history.events_of("stack-up")
    strange = tuple(_unexplained(scenario, history, ups[0].at)) if ups else ()
    reasons = ["the stack was never up"] if not ups else [*map(_told, strange), *_unwatched(scenario, history)]
    return (
        Finding(
            check="members",
            verdict="inconclusive" if reasons else "pass",
            title="No member died but by the fault",
            measured=count(len(strange), "unexplained end"),
            allowed="none",
            value=float(len(strange)),
            unit="ends",
            reason="; ".join(reasons),
            rests_on=needs.WHOLE + needs.CONTROL,
            evidence=tuple({"what": "exited", "at_us": event.at} | event.data for event in strange),
            evidence_total=len(strange),
        ),
    )


def _unexplained(scenario: Scenario, history: History, up_us: int) -> Iterator[Event]:
    for event in history.events_of("member"):
        _, latest = ended_between(event)
        ended = event.data.get("what") == "exited" and latest >= up_us
        member = str(event.data.get("member"))
        by_a_fault = ended and _by_a_fault(scenario, history, member, latest)
        if ended and not by_a_fault and not _by_an_operator(history, member, latest):
            yield event


def _unwatched(scenario: Scenario, history: History) -> Iterator[str]:
    """Servers of which nobody said that they were started; a load generator has none until the load begins."""
    events = history.events_of("member")
    started = {event.data.get("member") for event in events if event.data.get("what") == "started"}
    for member in scenario.stack.members:
        if member.component not in GENERATORS and member.name not in started:
            yield f"the start of {member.name} is not on record, nor would its end be"


def _by_a_fault(scenario: Scenario, history: History, member: str, at_us: int) -> bool:
    return any(
        member in injection.members
        and injection.began <= at_us <= (injection.healed or at_us) + HEARD_WITHIN_US
        and may_end(scenario, history, member, injection)
        for injection in injections(history)
    )


def may_end(scenario: Scenario, history: History, member: str, injection: Applied) -> bool:
    """Whether what was done to a member is a reason to end. Who is cut off goes on; but what is on a node that the
    cluster has given up, it starts elsewhere.
    """
    experiment = scenario.experiment
    if experiment is None:
        return False
    prelude = experiment.prelude if member in injection.before else None
    match prelude.fault if prelude else experiment.fault:
        case Noop() | Partition() | CutReplication() | Deny():
            return False
        case Isolate():
            return any(event.data.get("what") == "not-ready" for event in history.events_of("node"))
        case _:
            return True


def _by_an_operator(history: History, member: str, at_us: int) -> bool:
    """Whether an operator was stopping the member then: fencing it, or turning it back behind who was promoted."""
    return any(
        began_us <= at_us <= ended_us + HEARD_WITHIN_US and member in members
        for members, began_us, ended_us in _stopped(history)
    )


def _stopped(history: History) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Whom an operator stopped, and from when to when he was about it (us); older records tell it afterwards only."""
    for event in history.events_of("stopping"):
        within_us = int(float(event.data["within_s"]) * SECOND_US)
        yield (str(event.data["member"]),), event.at, event.at + within_us
    for event in history.events_of("fenced"):
        if "began_us" in event.data:
            yield tuple(event.data.get("members", ())), int(event.data["began_us"]), event.at
    for event in history.events_of("promotion"):
        began_us = int(event.data["began_us"])
        if event.data.get("fenced"):
            yield (str(event.data["former"]),), began_us, int(event.data["led_us"])
        yield tuple(event.data.get("turned_back", ())), began_us, event.at


def _told(event: Event) -> str:
    name, code = event.data.get("member"), event.data.get("code")
    return f"{name} {ended_text(code)} at {event.at / SECOND_US:.1f} s, which no fault of this run explains"
