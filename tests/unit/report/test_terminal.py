"""The verdict on a terminal and in a pipe."""

import io
from pathlib import Path

import msgspec
import pytest

from resilience.check.finding import Finding, Judgement, Where
from resilience.report.terminal import can_move, console_for, verdict_screen
from tests import judged_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(judgement: Judgement, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    console_for(stream).print(
        verdict_screen(judgement, Path("reports/latest/report.html"), "resilience run x --seed 1")
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    "judgement", [judged_run.passed(), judged_run.failed(), judged_run.inconclusive()], ids=lambda item: item.verdict
)
def test_headline_report_and_rerun_are_there_and_it_fits_one_screen(judgement: Judgement):
    text = shown(judgement)
    assert f" {judgement.verdict.upper()}   redis-failover" in text
    assert judgement.headline.removeprefix(f"{judgement.verdict}: ")[:40] in text
    assert "reports/latest/report.html" in text
    assert "resilience run x --seed 1" in text
    assert len(text.splitlines()) <= 40
    assert all(len(line.rstrip()) <= 120 for line in text.splitlines())


def test_a_failing_finding_says_why_measured_allowed_where_and_what_was_lost():
    text = shown(judged_run.failed())
    loss = judged_run.lost_writes()
    for wanted in (loss.reason, loss.measured, loss.allowed, "shard 1, 29.940 to 31.238 s"):
        assert wanted in text
    assert "lost  op direct/3000  key direct:{a}:17  acked 29.940 s" in text
    assert "and 7 more, in the report" in text
    assert text.index("why") < text.index("99.97 %")


def test_a_known_weakness_is_shown_as_one():
    text = shown(judged_run.known())
    assert " PASS   redis-failover  known weakness, seen again: 12 acknowledged writes lost" in text
    assert "✗ known weakness, seen again: 12 acknowledged writes lost" in text
    assert "WAIT would keep those writes <b>" in text


def test_many_passed_findings_of_a_check_are_one_line_with_the_least():
    many = tuple(
        Finding(
            check="availability",
            verdict="pass",
            title=f"ops on shard {n}",
            measured=f"{n} % ok",
            allowed="≥ 1 %",
            value=n / 100,
            unit="ratio",
            where=Where(group=f"shard {n}"),
        )
        for n in range(9, 2, -1)
    )
    text = shown(msgspec.structs.replace(judged_run.passed(), findings=many))
    assert "availability: 7 findings, the least: ops on shard 3" in text
    assert "3 % ok" in text
    assert "9 % ok" not in text


def test_hostile_text_controls_nothing():
    for stream in (io.StringIO(), Terminal()):
        text = shown(judged_run.hostile(), stream)
        assert "\x1b[31m\u202e" not in text
        assert "\u202e" not in text
        assert "\\x1b[31m\\u202e" in text.replace("\n", "")


def test_markup_and_emoji_codes_are_shown_as_they_are():
    text = shown(msgspec.structs.replace(judged_run.passed(), headline="[bold red]x[/] [link=http://a]b[/link] :bomb:"))
    assert "[bold red]x[/] [link=http://a]b[/link] :bomb:" in text


def test_a_pipe_has_no_colours_and_a_terminal_has():
    assert "\x1b" not in shown(judged_run.failed())
    assert "\x1b[" in shown(judged_run.failed(), Terminal())


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(judged_run.failed(), Terminal())
    assert "\x1b[31m" not in text
    assert ";31m" not in text


def test_nothing_moves_in_a_pipe_nor_in_ci(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    assert not can_move(console_for(io.StringIO()), {})
    assert can_move(console_for(Terminal()), {})
    assert not can_move(console_for(Terminal()), {"CI": "true"})


def test_many_findings_that_mean_nothing_are_one_line_after_their_cause():
    base = judged_run.inconclusive()
    resting = tuple(
        Finding(check=f"slo.{n}", verdict="inconclusive", title=f"objective {n}", rests_on=("assumption.fault-proved",))
        for n in range(9)
    )
    text = shown(msgspec.structs.replace(base, findings=(*resting, *base.findings)))
    assert "? 9 more of no meaning, since they rest on what does not hold: 9 slo" in text
    assert "objective 3" not in text
    assert text.index("The fault was in effect") < text.index("9 more")
    few = shown(msgspec.structs.replace(base, findings=(*resting[:2], *base.findings)))
    assert "?  objective 1" in few


def test_the_control_is_a_line_before_the_report_and_no_line_where_there_is_none():
    text = shown(judged_run.beside(judged_run.passed(), "baseline/1-1: pass, 2 h before\x1b[31m"))
    assert "control baseline/1-1: pass, 2 h before\\x1b[31m\nreport " in text
    assert "control" not in shown(judged_run.passed())
