"""How people read a judgement: in which order, and what kind of finding each is."""

from collections.abc import Iterable

from resilience.check.finding import Finding, Judgement, Verdict

_WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")


def in_reading_order(findings: Iterable[Finding]) -> list[Finding]:
    """Worst first; of the same verdict SLOs before checks, and otherwise as judged.

    Assumptions that do not hold are causes: they come before the inconclusive findings that rest on them. Those that
    hold come last.
    """
    found = list(findings)
    broken = broken_assumptions(found)
    return sorted(found, key=lambda finding: (_WORST_FIRST.index(finding.verdict), _rank(finding, broken)))


def broken_assumptions(findings: Iterable[Finding]) -> frozenset[str]:
    """The names of the assumptions that do not hold."""
    return frozenset(finding.check for finding in findings if is_assumption(finding) and finding.verdict != "pass")


def is_undermined(finding: Finding, broken: frozenset[str]) -> bool:
    """Whether a finding says nothing, since it rests on an assumption that does not hold."""
    return finding.verdict == "inconclusive" and not broken.isdisjoint(finding.rests_on)


def decisive(judgement: Judgement) -> frozenset[str]:
    """The names of the findings that made the verdict what it is; none made a pass."""
    if judgement.verdict == "pass":
        return frozenset()
    broken = broken_assumptions(judgement.findings)
    return frozenset(
        finding.check
        for finding in judgement.findings
        if finding.counts_as == judgement.verdict and not is_undermined(finding, broken)
    )


def headline_text(judgement: Judgement) -> str:
    """The headline without the verdict's word, which stands before it wherever it is shown."""
    return judgement.headline.removeprefix(f"{judgement.verdict}: ")


def control_text(judgement: Judgement) -> str:
    """Which control the run rests on, how that ended and how old it was; "" where it needs none."""
    return next((finding.measured for finding in judgement.findings if finding.check == "assumption.control"), "")


def is_slo(finding: Finding) -> bool:
    """Whether it speaks of a service level objective."""
    return finding.check.startswith("slo.")


def is_assumption(finding: Finding) -> bool:
    """Whether it speaks of what other findings rest on."""
    return finding.check.startswith("assumption.")


def is_loss(finding: Finding) -> bool:
    """Whether its evidence are writes that were acknowledged and lost, or came back wrong."""
    return finding.check.startswith("durability") and bool(finding.evidence)


def _rank(finding: Finding, broken: frozenset[str]) -> tuple[bool, int]:
    kind = 0 if is_slo(finding) else 1
    if is_assumption(finding):
        kind = 2 if finding.verdict == "pass" else -1
    return is_undermined(finding, broken), kind
