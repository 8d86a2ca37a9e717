"""Known weaknesses: a finding that fails as its scenario says it does is shown as that, and does not fail the run.

It never covers another finding, nor one that is inconclusive, nor a failure beyond its bound, nor a defect (what came
twice, or that nobody wrote) beside the loss that it speaks of. One that is declared to be there ``always`` and is not
seen is a fail: somebody has mended it, or the fault no longer does what it did.
"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from resilience.check.durability.collaboration import NAME as EDITS
from resilience.check.durability.content import NAME as CONTENT
from resilience.check.durability.events import NAME as EVENTS
from resilience.check.durability.postgresql import ROWS, may_lose
from resilience.check.finding import Finding
from resilience.check.lists import NAME as LISTS
from resilience.check.registers import NAME as REGISTERS
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Async, Stack
from resilience.spec.weakness import VALUE, KnownWeakness

NAME = "known-weakness"
_DEFECTS = "durability.defect_ops"
_NONE_KNOWN = {_DEFECTS: (0.0, 0.0)}  # bounds that hold unless the weakness names others


def with_weaknesses(scenario: Scenario, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, those marked that are a known weakness within its bound, and one for each that was not seen."""
    found = tuple(findings)
    declared = [
        weakness
        for weakness in scenario.known_weaknesses
        if weakness.durability in {"any", _mode(scenario.stack, weakness.finding)}
    ]
    marked = tuple(_marked(finding, declared) for finding in found)
    missing = [finding for weakness in declared for finding in _unseen(weakness, marked)]
    return (*marked, *missing)


def _mode(stack: Stack, finding: str) -> str:
    """Whether what the finding speaks of is acknowledged before anybody else has it."""
    in_postgresql = finding in {ROWS.name, REGISTERS, LISTS, EVENTS, CONTENT}
    in_postgresql |= finding == EDITS and stack.has_rooms_in_postgresql
    alone = may_lose(stack) if in_postgresql else isinstance(stack.durability, Async)
    return "async" if alone else "wait"


def _marked(finding: Finding, declared: Iterable[KnownWeakness]) -> Finding:
    if finding.verdict != "fail":
        return finding
    for weakness in declared:
        if _speaks_of(weakness, finding):
            beyond = _beyond(weakness, finding)
            if not beyond:
                return replace(finding, known=weakness.why)
            return replace(finding, reason=f"{finding.reason}; beyond the known weakness: {beyond}")
    return finding


def _speaks_of(weakness: KnownWeakness, finding: Finding) -> bool:
    return finding.check == weakness.finding and weakness.group in {"", finding.where.group}


def _beyond(weakness: KnownWeakness, finding: Finding) -> str:
    """What of the finding is not within the bound, "" if all is; a number that was not measured is not within it."""
    measures: Mapping[str, float | None] = {_DEFECTS: 0.0, **finding.measures, VALUE: finding.value}
    for name, (least, most) in {**_NONE_KNOWN, **weakness.within}.items():
        value = measures.get(name)
        if value is None:
            return f"{name} was not measured"
        if not least <= value <= most:
            return f"{name} is {value:g}, known are {least:g} to {most:g}"
    return ""


def _unseen(weakness: KnownWeakness, found: Iterable[Finding]) -> Iterable[Finding]:
    """A finding that says that the weakness is gone; none where it was seen, or where that could not be judged."""
    spoken = [finding for finding in found if _speaks_of(weakness, finding)]
    what = f"{weakness.finding} [{weakness.group}]" if weakness.group else weakness.finding
    if not spoken:
        reason = f"the scenario names {what} as a known weakness, and there is no such finding"
        yield Finding(check=NAME, verdict="inconclusive", title="a known weakness could not be judged", reason=reason)
    elif all(finding.verdict == "pass" for finding in spoken):
        always = weakness.seen == "always"
        yield Finding(
            check=NAME,
            verdict="fail" if always else "pass",
            title=f"{what}: the known weakness was not seen",
            measured="not seen",
            allowed="seen always" if always else "seen sometimes",
            reason="it is declared to be there always: if it is mended, take it out of the scenario" if always else "",
        )
