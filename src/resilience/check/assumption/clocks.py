"""The clocks of a run's processes: whether all were compared with the runner's, and what is too small for them.

A record that does not say which kernel its runner was under is from before they were compared, when a process under
another kernel was refused; nothing in it rests on this. A process under the runner's kernel has its clock.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec.structs import replace

from resilience.check import needs
from resilience.check.assumption.finding import held_unless
from resilience.check.fault import SECOND_US
from resilience.check.finding import Finding
from resilience.check.text import seconds
from resilience.history.offset import COMPARED
from resilience.history.read import History
from resilience.history.record import Event
from resilience.spec.scenario import Scenario

UNSEEN_US_MAX = 150 * SECOND_US  # between two comparisons: one each minute, of which one may be missing
_BETWEEN_PROCESSES = ("recovery.", "durability.")  # measures from instants that several processes may have told


def clocks(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """Each process told its instants by the runner's clock, or by one that was compared with it all the time."""
    del scenario
    known, here = _by_process(history), _runners_kernel(history)
    reasons = [reason for process, events in known.items() for reason in _unknown(history, process, events, here)]
    reasons += [
        f"which kernel {process} was under is not on record" for process in sorted(_clients(history) - known.keys())
    ]
    elsewhere = [process for process, events in known.items() if any(_kernel(event) != here for event in events)]
    bound = f", ±{bound_us(history) / 1_000:g} ms" if elsewhere else ""
    measured = f"{len(elsewhere)} of {len(known)} processes under another kernel than the runner{bound}"
    return (
        held_unless("clocks", "All instants are on one clock", reasons, measured, "the runner's, or compared with"),
    )


def with_clocks(history: History, finding: Finding) -> Finding:
    """The finding, resting on the clocks where it is about phases, and saying what is smaller than their error."""
    if _runners_kernel(history) is None:
        return finding
    rests = needs.CLOCKS if set(needs.WHOLE) <= set(finding.rests_on) else ()
    reason = "; ".join(part for part in (finding.reason, _too_small(history, finding)) if part)
    return replace(finding, rests_on=finding.rests_on + rests, reason=reason)


def bound_us(history: History) -> int:
    """By how much an interval may be wrong: either of its ends, by as much as any clock may."""
    return 2 * max((int(event.data.get("error_us", 0)) for event in history.events_of(COMPARED)), default=0)


def _too_small(history: History, finding: Finding) -> str:
    """What was measured, and is smaller than that: it may as well have been nothing."""
    bound = bound_us(history)
    numbers = {name: value for name, value in finding.measures.items() if _is_between(name)}
    if finding.unit == "s" and finding.value is not None and not numbers and _is_between(f"{finding.check}."):
        numbers[finding.check] = finding.value
    small = [
        f"{name.removesuffix('_s')} {seconds(value)}"
        for name, value in numbers.items()
        if value and abs(value) * SECOND_US < bound
    ]
    if not small:
        return ""
    return f"smaller than the {bound / 1_000:g} ms that the processes' clocks may be wrong by: {', '.join(small)}"


def _is_between(name: str) -> bool:
    is_length = name.endswith(("_s", ".")) and not name.endswith("_error_s")
    return is_length and name.startswith(_BETWEEN_PROCESSES)


def _unknown(history: History, process: str, events: Sequence[Event], here: str | None) -> Iterator[str]:
    """Why what a process recorded cannot be put on the runner's clock."""
    apart = [event for event in events if not _kernel(event) or _kernel(event) != here]
    if any("offset_us" not in event.data or "error_us" not in event.data for event in apart):
        yield f"{process} was under another kernel than the runner, and its clock was not compared"
    elif apart and (gap_us := _longest_gap_us(history, process, events)) > UNSEEN_US_MAX:
        yield f"the clock of {process} was not compared for {gap_us / SECOND_US:.0f} s"


def _longest_gap_us(history: History, process: str, events: Sequence[Event]) -> int:
    """The longest time in which a client sent ops and did not compare its clock."""
    sent = history.ops.called[history.ops.of_client(process)]
    if not len(sent):
        return 0
    compared = [event.at for event in events]
    marks = sorted([*compared, *(at for at in (int(sent.min()), int(sent.max())) if not _within(at, compared))])
    return max((after - before for before, after in pairwise(marks)), default=0)


def _within(at: int, compared: Sequence[int]) -> bool:
    return min(compared) <= at <= max(compared)


def _by_process(history: History) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in history.events_of(COMPARED):
        found.setdefault(event.data["process"], []).append(event)
    return found


def _kernel(event: Event) -> str:
    return str(event.data["boot_id"])


def _runners_kernel(history: History) -> str | None:
    """Its boot id, "" if it did not know it; None in a record from before it was asked."""
    told = [str(event.data["boot_id"]) for event in history.events_of("load-started") if "boot_id" in event.data]
    return told[-1] if told else None


def _clients(history: History) -> set[str]:
    return {str(name) for event in history.events_of("load-started") for name in event.data.get("clients", ())}
