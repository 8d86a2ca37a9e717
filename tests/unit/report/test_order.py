"""In which order findings are read, and which of them mean nothing."""

import pytest

from resilience.check.finding import Finding, Judgement, Verdict
from resilience.report.order import broken_assumptions, headline_text, in_reading_order, is_loss, is_undermined


def finding(check: str, verdict: Verdict, *rests_on: str) -> Finding:
    return Finding(check=check, verdict=verdict, title=check, rests_on=rests_on)


PROVED = "assumption.fault-proved"
FINDINGS = (
    finding("assumption.load-rate", "pass"),
    finding("slo.a", "pass"),
    finding("recovery", "inconclusive", PROVED),
    finding("slo.b", "inconclusive", PROVED),
    finding("latency", "inconclusive"),
    finding(PROVED, "inconclusive"),
    finding("durability.direct", "fail", PROVED),
    finding("slo.c", "fail"),
    finding("availability", "pass", PROVED),
)


def test_worst_first_and_causes_before_what_they_make_meaningless():
    assert [item.check for item in in_reading_order(FINDINGS)] == [
        "slo.c",
        "durability.direct",
        PROVED,
        "latency",
        "slo.b",
        "recovery",
        "slo.a",
        "availability",
        "assumption.load-rate",
    ]


def test_only_inconclusive_findings_are_undermined():
    broken = broken_assumptions(FINDINGS)
    assert broken == {PROVED}
    assert [item.check for item in FINDINGS if is_undermined(item, broken)] == ["recovery", "slo.b"]


@pytest.mark.parametrize(
    ("headline", "text"), [("fail: 3 lost", "3 lost"), ("3 lost", "3 lost"), ("pass: fine", "pass: fine")]
)
def test_the_verdict_s_word_is_not_said_twice(headline: str, text: str):
    judgement = Judgement(scenario="s", verdict="fail", headline=headline, findings=(), measures={})
    assert headline_text(judgement) == text


def test_a_loss_has_writes_to_show():
    assert not is_loss(finding("durability.direct", "fail"))
    assert is_loss(Finding(check="durability.direct", verdict="pass", title="x", evidence=({"op": "a"},)))
    assert not is_loss(Finding(check="recovery", verdict="pass", title="x", evidence=({"op": "a"},)))
