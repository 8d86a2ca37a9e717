"""How people read a judgement: in which order, and what kind of finding each is."""

from collections.abc import Iterable

from resilience.check.finding import Finding, Judgement, Verdict

_WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")


def in_reading_order(findings: Iterable[Finding]) -> list[Finding]:
    """Worst first; of the same verdict SLOs before checks, and assumptions last; otherwise as judged."""
    return sorted(findings, key=lambda finding: (_WORST_FIRST.index(finding.verdict), _rank(finding)))


def headline_text(judgement: Judgement) -> str:
    """The headline without the verdict's word, which stands before it wherever it is shown."""
    return judgement.headline.removeprefix(f"{judgement.verdict}: ")


def is_slo(finding: Finding) -> bool:
    """Whether it speaks of a service level objective."""
    return finding.check.startswith("slo.")


def is_assumption(finding: Finding) -> bool:
    """Whether it speaks of what other findings rest on."""
    return finding.check.startswith("assumption.")


def is_loss(finding: Finding) -> bool:
    """Whether its evidence are writes that were acknowledged and lost, or came back wrong."""
    return finding.check.startswith("durability") and bool(finding.evidence)


def _rank(finding: Finding) -> int:
    if is_slo(finding):
        return 0
    return 2 if is_assumption(finding) else 1
