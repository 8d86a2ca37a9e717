"""What a check finds, and how findings are merged into a verdict."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

Verdict = Literal["pass", "fail", "inconclusive"]
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What a finding speaks of; ``start_us`` and ``end_us`` on the run's clock, -1 where it is no interval."""

    phase: str = ""
    group: str = ""  # "shard 1", "room 7", "edge" …
    start_us: int = -1
    end_us: int = -1


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's result.

    ``measured`` and ``allowed`` are short texts with units, for people; ``value`` is the number behind ``measured``.
    ``evidence`` lists op ids (``client/id``), keys or windows, the first 200 of ``evidence_total``.
    ``rests_on`` names the assumptions without which a verdict would mean nothing (``assumption.load-rate`` …).
    ``measures`` are the numbers that it adds to the judgement's, by their full names.
    """

    check: str  # e.g. "durability.direct", "slo.session-availability", "assumption.fault-proved"
    verdict: Verdict
    title: str  # one line for people
    measured: str = ""
    allowed: str = ""
    value: float | None = None
    unit: str = ""
    reason: str = ""  # why it is not a pass
    where: Where = Where()
    rests_on: tuple[str, ...] = ()
    evidence: tuple[dict[str, Any], ...] = ()
    evidence_total: int = 0
    measures: dict[str, float] = {}
    known: str = ""  # of a fail that is a known weakness within its bound: why it is one

    @property
    def counts_as(self) -> Verdict:
        """What it is to the run's verdict: a known weakness does not fail it."""
        return "pass" if self.known else self.verdict


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of a run and the merged verdict; ``headline`` is the verdict's first line."""

    scenario: str
    verdict: Verdict
    headline: str
    findings: tuple[Finding, ...]
    measures: dict[str, float]  # e.g. "recovery.first_good_write_s", "durability.lost_ops"; absent: not measured


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several verdicts, in the order fail, inconclusive, pass; of none: inconclusive."""
    present = set(verdicts)
    return next((verdict for verdict in _WORST_FIRST if verdict in present), "inconclusive")
