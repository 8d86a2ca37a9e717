"""A suite: what counts as passed, what never ran, and the one exit code."""

from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from rich.console import Console

from resilience.check.finding import Judgement, Verdict
from resilience.errors import HostError
from resilience.outside import VERDICT_CODES, Ended, Wanted
from resilience.report.suite import Result, SuiteRow, suite_code, suite_json, suite_junit, suite_table
from resilience.spec.suite import Expectation, Suite, SuiteRun
from resilience.suite import missed_expectation, run_suite
from tests.fakes import FakeRuns

REPORTS = Path("reports")
LOSS = Expectation(verdict="fail", measures={"durability.lost_ops": (500, 900)})


def judged(verdict: Verdict, **measures: float) -> Judgement:
    named = {name.replace("__", "."): value for name, value in measures.items()}
    return Judgement(scenario="one", verdict=verdict, headline=f"{verdict}: so", findings=(), measures=named)


def ended(verdict: Verdict, code: int | None = None, **measures: float) -> Ended:
    code = VERDICT_CODES[verdict] if code is None else code
    return Ended(code=code, directory=Path("reports/one/1"), judgement=judged(verdict, **measures))


def results(runs: FakeRuns, *wanted: SuiteRun) -> list[Result]:
    suite = Suite(name="some", title="", runs=wanted, scenarios=())
    return [row.result for row in run_suite(suite, REPORTS, 7, runs, runs.said.append)]


ONE, TWO = SuiteRun(scenario="one"), SuiteRun(scenario="two", set={"redis.appendonly": False, "durability": "wait:1"})


def test_each_is_run_as_it_is_written() -> None:
    runs = FakeRuns([ended("pass"), ended("pass")])
    assert results(runs, ONE, TWO) == ["pass", "pass"]
    assert runs.wanted == [
        Wanted(scenario="one", overrides=(), seed=7, reports=REPORTS),
        Wanted(scenario="two", overrides=("redis.appendonly=false", "durability=wait:1"), seed=7, reports=REPORTS),
    ]
    assert len(runs.said) == 2


@pytest.mark.parametrize(
    ("became", "expect", "result"),
    [
        (ended("pass"), Expectation(), "pass"),
        (ended("fail"), Expectation(), "fail"),
        (ended("inconclusive"), Expectation(), "inconclusive"),
        (ended("inconclusive"), Expectation(verdict="inconclusive"), "pass"),
        (ended("pass"), Expectation(verdict="inconclusive"), "fail"),
        (ended("fail", durability__lost_ops=500), LOSS, "pass"),
        (ended("fail", durability__lost_ops=499), LOSS, "fail"),
        (ended("fail", durability__lost_ops=901), LOSS, "fail"),
        (ended("fail"), LOSS, "fail"),
        (ended("pass", durability__lost_ops=500), LOSS, "fail"),
        (ended("inconclusive", durability__lost_ops=500), LOSS, "inconclusive"),
        (ended("inconclusive", code=4), Expectation(verdict="inconclusive"), "error"),
        (Ended(code=4, directory=None, judgement=None), Expectation(), "error"),
        (Ended(code=130, directory=None, judgement=None), Expectation(), "not run"),
        (HostError("no disk space"), Expectation(), "error"),
    ],
)
def test_what_counts_as_passed(became: Ended | HostError, expect: Expectation, result: Result) -> None:
    assert results(FakeRuns([became]), SuiteRun(scenario="one", expect=expect)) == [result]


def test_a_measure_that_is_missing_is_named() -> None:
    assert missed_expectation(LOSS, judged("fail")) == "durability.lost_ops was not measured, expected 500 to 900"


def test_what_was_not_reached_is_in_the_table() -> None:
    interrupted = ended("inconclusive", code=130)
    assert results(FakeRuns([ended("pass"), interrupted]), ONE, TWO, ONE) == ["pass", "inconclusive", "not run"]


def row(result: Result) -> SuiteRow:
    return SuiteRow(
        scenario="one", title="<b>&\x1b[31m", result=result, verdict="", line="[red]so\x00", took_s=3, directory=""
    )


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (["pass", "pass"], 0),
        (["pass", "inconclusive"], 3),
        (["inconclusive", "error"], 4),
        (["error", "fail", "inconclusive"], 1),
        (["pass", "not run"], 3),
        ([], 3),
    ],
)
def test_one_exit_code(found: list[Result], code: int) -> None:
    assert suite_code([row(result) for result in found]) == code


def test_junit_has_a_case_for_each() -> None:
    rows = [row("pass"), row("fail"), row("inconclusive"), row("error"), row("not run")]
    suite = ET.fromstring(suite_junit("some", rows))
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"], ["error"], ["skipped"]]
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "2", "skipped": "1",
    }  # fmt: skip
    assert b'"exit_code": 1' in suite_json("some", rows)


def test_the_table_shows_text_as_text() -> None:
    console = Console(width=120, markup=False, record=True, force_terminal=False)
    console.print(suite_table("some", [row("fail")]))
    text = console.export_text()
    assert "[red]so" in text
    assert "\x1b" not in text


def test_a_title_stands_below_its_scenario() -> None:
    console = Console(width=120, markup=False, record=True, force_terminal=False)
    console.print(suite_table("some", [msgspec.structs.replace(row("pass"), title="SIGKILL, 2 s")]))
    first, second = console.export_text().splitlines()[2:4]
    assert first.split()[1] == "one"
    assert second.strip().startswith("SIGKILL, 2 s")
