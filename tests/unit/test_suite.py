"""A suite: what counts as passed, what never ran, and the one exit code."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from rich.console import Console

from resilience.backend.choice import able
from resilience.check.finding import Finding, Judgement, Verdict
from resilience.errors import HostError, SpecError
from resilience.outside import VERDICT_CODES, Ended, Wanted
from resilience.report.suite import Result, SuiteRow, suite_code, suite_json, suite_junit, suite_table
from resilience.spec.read import list_scenarios, read_scenario, read_suite
from resilience.spec.suite import Expectation, Suite, SuiteRun
from resilience.suite import missed_expectation, require_known_findings, run_suite, strange_server
from tests.fakes import FakeRuns
from tests.histories import IDENTITY, Recorded, scenario

ROOT = Path(__file__).parents[2]
REPORTS = Path("reports")
LOST, UNPROVED = "durability.direct", "assumption.fault-proved"
BY: dict[Verdict, tuple[str, ...]] = {"pass": (), "fail": (LOST,), "inconclusive": (UNPROVED,)}
UNSURE = Expectation(verdict="inconclusive", by=(UNPROVED,))
LOSS = Expectation(verdict="fail", by=(LOST,), redis="8.0", measures={"durability.lost_ops": (500, 900)})

# as they were measured (docs/track-record.md)
CUT_OFF = {
    "durability.lost_ops": 1164, "durability.kept_in_window_ops": 3, "durability.lost_newest_s": -7.331763,
    "durability.lost_oldest_s": 0.006559, "recovery.first_good_write_s": 7.752309,
}  # fmt: skip
EMPTIED = {
    "durability.lost_ops": 4657, "durability.direct.lost_ops": 3010, "durability.kept_before_fault_ops": 0,
    "durability.lost_newest_s": 0.223742, "recovery.first_good_write_s": 2.114723,
}  # fmt: skip
WAITED = {
    "durability.lost_ops": 0, "durability.direct.acked_during_fault_ops": 0, "recovery.first_good_write_s": 21.14,
}  # fmt: skip
KILLED = {
    "durability.lost_ops": 0, "durability.lost_outside_window_ops": 0, "recovery.first_good_write_s": 8.01,
    "recovery.spared_outage_s": 0.750367,
}  # fmt: skip
PROMOTED = {
    "durability.lost_outside_window_ops": 0, "durability.postgresql.lost_ops": 1,
    "recovery.postgresql.first_good_write_s": 10.77,
}  # fmt: skip
CUT_OFF_ROWS = {
    "durability.postgresql.lost_ops": 161, "durability.lost_oldest_s": 4.045, "durability.lost_newest_s": 0.045,
    "recovery.postgresql.first_good_write_s": 5.77,  # its operator's 5 s, and what the one above took beyond its 10 s
}  # fmt: skip
SPLIT = {
    "durability.postgresql.lost_ops": 725, "durability.lost_oldest_s": -0.018, "durability.lost_newest_s": -31.04,
}  # fmt: skip


@cache
def shipped(name: str) -> Suite:
    return read_suite(ROOT, name)


def judged(verdict: Verdict, **measures: float) -> Judgement:
    named = {name.replace("__", "."): value for name, value in measures.items()}
    return Judgement(
        scenario="one",
        verdict=verdict,
        headline=f"{verdict}: so",
        findings=found(**{verdict: BY[verdict]}),
        measures=named,
    )


def found(**names: tuple[str, ...]) -> tuple[Finding, ...]:
    """Findings by their verdicts."""
    return tuple(
        Finding(check=name, verdict=msgspec.convert(verdict, Verdict), title=name)
        for verdict, of_it in names.items()
        for name in of_it
    )


def ended(verdict: Verdict, code: int | None = None, **measures: float) -> Ended:
    code = VERDICT_CODES[verdict] if code is None else code
    return Ended(code=code, directory=Path("reports/one/1"), judgement=judged(verdict, **measures))


def answered(folder: Path, *versions: str) -> Path:
    """The directory of a run in which Redis of these versions answered."""
    identity = msgspec.structs.replace(IDENTITY, versions={"redis": versions})
    Recorded(identity=identity).save(folder, scenario())
    return folder


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
        (ended("inconclusive"), UNSURE, "pass"),
        (ended("pass"), UNSURE, "fail"),
        (ended("fail", durability__lost_ops=500), LOSS, "pass"),
        (ended("fail", durability__lost_ops=499), LOSS, "fail"),
        (ended("fail", durability__lost_ops=901), LOSS, "fail"),
        (ended("fail"), LOSS, "fail"),
        (ended("pass", durability__lost_ops=500), LOSS, "fail"),
        (ended("inconclusive", durability__lost_ops=500), LOSS, "inconclusive"),
        (ended("inconclusive", code=4), UNSURE, "error"),
        (Ended(code=4, directory=None, judgement=None), Expectation(), "error"),
        (Ended(code=130, directory=None, judgement=None), Expectation(), "not run"),
        (HostError("no disk space"), Expectation(), "error"),
    ],
)
def test_what_counts_as_passed(became: Ended | HostError, expect: Expectation, result: Result, tmp_path: Path) -> None:
    if isinstance(became, Ended) and became.directory:
        became = replace(became, directory=answered(tmp_path, "8.0.2"))
    assert results(FakeRuns([became]), SuiteRun(scenario="one", expect=expect)) == [result]


@pytest.mark.parametrize(
    ("versions", "result", "says"),
    [
        (("8.0.2",), "pass", "fail: so"),
        (("8.0",), "pass", "fail: so"),
        (("8.2.1",), "inconclusive", "what Redis 8.0 does, and 8.2.1 answered"),
        (("8.0.2", "7.4.0"), "inconclusive", "and 7.4.0 answered"),
        (("8.01.2",), "inconclusive", "and 8.01.2 answered"),
        ((), "inconclusive", "which one answered is not on record"),
    ],
)
def test_numbers_of_one_server_say_nothing_of_another(
    versions: tuple[str, ...], result: Result, says: str, tmp_path: Path
) -> None:
    runs = FakeRuns([replace(ended("fail", durability__lost_ops=500), directory=answered(tmp_path, *versions))])
    suite = Suite(name="some", title="", runs=(SuiteRun(scenario="one", expect=LOSS),), scenarios=())
    (row,) = run_suite(suite, REPORTS, 7, runs, runs.said.append)
    assert row.result == result
    assert says in row.line


@pytest.mark.parametrize(
    ("component", "series", "version", "says"),
    [
        ("rabbitmq", "4.0", "4.0.5", ""),
        ("rabbitmq", "4.0", "4.3.0", "expected is what RabbitMQ 4.0 does, and 4.3.0 answered"),
        ("postgresql", "17", "17.12 (Debian 17.12-0+deb13u1)", ""),
        ("postgresql", "17", "18.1", "expected is what PostgreSQL 17 does, and 18.1 answered"),
        ("postgresql", "17", "170.1", "expected is what PostgreSQL 17 does, and 170.1 answered"),
    ],
)
def test_numbers_may_be_those_of_another_tier(
    component: str, series: str, version: str, says: str, tmp_path: Path
) -> None:
    expect = msgspec.convert({component: series, "measures": {"durability.lost_ops": (0, 0)}}, Expectation)
    identity = msgspec.structs.replace(IDENTITY, versions={"redis": ("8.0.2",), component: (version,)})
    Recorded(identity=identity).save(tmp_path, scenario())
    assert strange_server(expect, tmp_path).partition(": it needs")[0] == says
    assert "and which one answered is not on record" in strange_server(expect, None)


def test_a_run_of_two_tiers_may_be_bound_to_both_of_their_servers(tmp_path: Path) -> None:
    expect = Expectation(redis="8.0", postgresql="17", measures={"durability.lost_ops": (0, 0)})
    versions = {"redis": ("8.2.0",), "postgresql": ("16.4",)}
    Recorded(identity=msgspec.structs.replace(IDENTITY, versions=versions)).save(tmp_path, scenario())
    said = strange_server(expect, tmp_path)
    assert "Redis 8.0 does, and 8.2.0 answered" in said
    assert "PostgreSQL 17 does, and 16.4 answered" in said


def test_numbers_of_no_server_are_refused() -> None:
    with pytest.raises(ValueError, match=r'name its series, redis: "8\.0"'):
        Expectation(measures={"durability.lost_ops": (0, 0)})


@pytest.mark.parametrize(
    ("title", "measured", "broken"),
    [
        ("cut off, node time-out 5 s", CUT_OFF, {}),
        ("cut off, node time-out 5 s", CUT_OFF, {"durability.lost_ops": 600}),
        ("cut off, node time-out 5 s", CUT_OFF, {"durability.kept_in_window_ops": 117}),
        ("cut off, node time-out 5 s", CUT_OFF, {"durability.lost_newest_s": -8.5}),
        ("quick restart without persistence", EMPTIED, {}),
        ("quick restart without persistence", EMPTIED, {"durability.kept_before_fault_ops": 1}),
        ("quick restart without persistence", EMPTIED, {"durability.lost_newest_s": -0.5}),
        ("cut off, WAIT 1", WAITED, {}),
        ("cut off, WAIT 1", WAITED, {"durability.direct.acked_during_fault_ops": 1}),
        ("cut off, WAIT 1", WAITED, {"recovery.first_good_write_s": 19.0}),
        ("SIGKILL, node time-out 5 s", KILLED, {}),
        ("SIGKILL, node time-out 5 s", KILLED, {"durability.lost_ops": 17}),
        ("SIGKILL, node time-out 5 s, cluster-require-full-coverage no", KILLED, {"recovery.spared_outage_s": 0.75}),
        ("PostgreSQL, async, SIGKILL", PROMOTED, {}),
        ("PostgreSQL, async, SIGKILL", PROMOTED, {"durability.postgresql.lost_ops": 5}),
        ("PostgreSQL, async, SIGKILL", PROMOTED, {"recovery.postgresql.first_good_write_s": 9.9}),
        ("PostgreSQL, async, both standbys cut off", CUT_OFF_ROWS, {}),
        ("PostgreSQL, async, both standbys cut off", CUT_OFF_ROWS, {"durability.postgresql.lost_ops": 100}),
        ("PostgreSQL, async, both standbys cut off", CUT_OFF_ROWS, {"durability.lost_newest_s": -0.3}),
        ("PostgreSQL, async, a standby promoted", SPLIT, {}),
        ("PostgreSQL, async, a standby promoted", SPLIT, {"durability.lost_newest_s": -20}),
    ],
)
def test_the_calibration_expects_what_was_measured_and_little_more(
    title: str, measured: dict[str, float], broken: dict[str, float]
) -> None:
    expect = next(run.expect for run in shipped("calibration").runs if run.title.startswith(title))
    judgement = msgspec.structs.replace(
        judged(expect.verdict), findings=found(**{expect.verdict: expect.by}), measures=measured | broken
    )
    missed = missed_expectation(expect, judgement)
    assert missed.partition(" ")[0] == next(iter(broken), "")


@pytest.mark.parametrize("tier", ["redis", "postgresql", "rabbitmq"])
def test_the_calibration_of_a_tier_is_bound_to_its_server_and_bounds_what_is_lost(tier: str) -> None:
    for run in shipped(f"calibration-{tier}").runs:
        assert set(run.expect.series) == {tier}, run.title
        assert any("lost" in name for name in run.expect.measures), run.title


RECOVERY, SERVED = "slo.recovery-time", "slo.session-availability-fault"
SLOW = Expectation(verdict="fail", by=(RECOVERY,), besides=(SERVED,))


@pytest.mark.parametrize(
    ("expect", "findings", "missed"),
    [
        (SLOW, found(fail=(RECOVERY,), **{"pass": (SERVED, LOST)}), ""),
        (SLOW, found(fail=(RECOVERY, SERVED)), ""),
        (SLOW, found(fail=(RECOVERY, RECOVERY)), ""),
        (SLOW, found(fail=(SERVED,)), f"expected fail by {RECOVERY}, was by {SERVED}"),
        (SLOW, found(fail=(LOST, "latency")), f"expected fail by {RECOVERY}, was by {LOST}, latency"),
        (SLOW, found(fail=(RECOVERY, LOST)), f"expected fail by nothing but {RECOVERY}, was by {LOST} as well"),
        (SLOW, (*found(fail=(RECOVERY,)), msgspec.structs.replace(found(fail=(LOST,))[0], known="so it is")), ""),
        (UNSURE, found(inconclusive=(UNPROVED,)), ""),
        (
            UNSURE,
            (*found(inconclusive=(UNPROVED,)),
             msgspec.structs.replace(found(inconclusive=(LOST,))[0], rests_on=(UNPROVED,))),
            "",
        ),
        (
            UNSURE,
            found(inconclusive=("assumption.control",)),
            f"expected inconclusive by {UNPROVED}, was by assumption.control",
        ),
        (
            UNSURE,
            found(inconclusive=(UNPROVED, "takeover")),
            f"expected inconclusive by nothing but {UNPROVED}, was by takeover as well",
        ),
    ],
)  # fmt: skip
def test_a_verdict_is_as_expected_only_by_the_findings_that_were(
    expect: Expectation, findings: tuple[Finding, ...], missed: str
) -> None:
    judgement = msgspec.structs.replace(judged(expect.verdict), findings=findings)
    assert missed_expectation(expect, judgement) == missed


@pytest.mark.parametrize(
    ("verdict", "findings", "missed"),
    [
        ("pass", found(**{"pass": (RECOVERY, SERVED)}), ""),
        ("fail", found(fail=(SERVED,)), ""),
        ("fail", found(fail=(LOST,)), f"expected fail by nothing but {RECOVERY}, {SERVED}, was by {LOST} as well"),
        ("inconclusive", found(inconclusive=(UNPROVED,)), "expected pass or fail"),
    ],
)
def test_a_pass_that_may_be_a_fail_may_be_one_by_what_is_named_alone(
    verdict: Verdict, findings: tuple[Finding, ...], missed: str
) -> None:
    either = Expectation(besides=(RECOVERY, SERVED))
    assert missed_expectation(either, msgspec.structs.replace(judged(verdict), findings=findings)) == missed


def test_the_table_says_what_a_fail_was_by() -> None:
    became = ended("fail")
    assert became.judgement is not None
    became = replace(became, judgement=msgspec.structs.replace(became.judgement, findings=found(fail=(LOST,))))
    runs = FakeRuns([became])
    suite = Suite(name="some", title="", runs=(SuiteRun(scenario="one", expect=SLOW),), scenarios=())
    rows = run_suite(suite, REPORTS, 7, runs, runs.said.append)
    assert rows[0].result == "fail"
    assert f"expected fail by {RECOVERY}, was by {LOST}" in " ".join(shown(rows).split())


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"verdict": "fail"}, r"any run may end with fail: name what it has to be by, by: \[slo\.recovery-time\]"),
        ({"verdict": "inconclusive"}, r"name what it has to be by, by: \[assumption\.fault-proved\]"),
        ({"by": [LOST]}, "a pass is by no finding"),
        ({"besides": [LOST, LOST]}, "expected every finding once"),
        ({"verdict": "fail", "besides": [LOST]}, "any run may end with fail"),
        ({"verdict": "fail", "by": [LOST], "besides": [LOST]}, "expected every finding once"),
        ({"verdict": "fail", "by": [LOST, LOST]}, "expected every finding once"),
        ({"verdict": "fail", "by": [""]}, "length >= 1"),
    ],
)
def test_what_a_verdict_is_by_is_said_once_and_never_of_a_pass(told: dict[str, object], says: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError), match=says):
        msgspec.convert(told, Expectation)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (LOST, True),
        (UNPROVED, True),
        ("blast-radius.people", True),
        ("slo.recovery-time", True),
        ("known-weakness", True),  # one that has to be there always, and is not
        ("slo.recovery-tim", False),
        ("assumption.fault-prove", False),
        ("durability.rabbitmq", False),  # its stack has none
        ("latenc", False),
    ],
)
def test_a_finding_that_a_run_cannot_have_is_refused(name: str, known: bool) -> None:
    run = SuiteRun(scenario="redis-failover", expect=Expectation(verdict="fail", by=(name,)))
    suite = Suite(name="some", title="", runs=(run,), scenarios=(read_scenario(ROOT, "redis-failover"),))
    if known:
        require_known_findings(suite)
    else:
        with pytest.raises(SpecError, match=r"some: redis-failover: expect\.by: expected a check, slo\.NAME"):
            require_known_findings(suite)


@pytest.mark.parametrize("name", ["smoke", "nightly", "cluster", "calibration"])
def test_every_shipped_run_is_expected_to_end_by_what_its_scenario_has(name: str) -> None:
    require_known_findings(shipped(name))


def test_every_shipped_scenario_is_played_every_night_or_only_in_a_cluster() -> None:
    played = {name: {run.scenario for run in shipped(name).runs} for name in ("smoke", "nightly", "cluster")}
    assert sorted(set(list_scenarios(ROOT)) - played["nightly"] - played["cluster"]) == []
    assert sorted(played["smoke"] - played["nightly"]) == []
    only_there = played["cluster"] - played["nightly"]
    impossible = {name for name in only_there if not possible(name, "local")}
    assert impossible == only_there, "what a stack on one machine can play is played every night"
    assert all(possible(name, "local") for name in played["nightly"])


def possible(name: str, stack: str) -> bool:
    experiment = read_scenario(ROOT, name).experiment
    return experiment is None or stack in able(experiment.fault)


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


BUSY = {"cpus": 2, "busy_ratio": 0.783, "steal_ratio": 0.0124, "cpu_some_ratio": 0.3}
VERSIONS = {"redis": ("8.0.2",), "postgresql": ("17.12 (Debian 17.12-0+deb13u1)",), "pgbouncer": ("PgBouncer 1.24.1",)}


def test_a_row_says_what_it_ran_on(tmp_path: Path) -> None:
    identity = msgspec.structs.replace(IDENTITY, versions=VERSIONS)
    Recorded(identity=identity).save(tmp_path, scenario())
    runs = FakeRuns([replace(ended("pass"), directory=tmp_path, machine=BUSY)])
    suite = Suite(name="some", title="", runs=(ONE,), scenarios=())
    (found,) = run_suite(suite, REPORTS, 7, runs, runs.said.append)
    assert (found.servers, found.machine) == (VERSIONS, BUSY)


def test_what_runs_were_on_stands_beside_them_in_every_form() -> None:
    other = {"rabbitmq": ("4.0.5",), "redis": ("8.0.3",)}
    idle = BUSY | {"busy_ratio": 0.5, "steal_ratio": 0.0}
    rows = [
        msgspec.structs.replace(row("pass"), verdict="pass", servers=VERSIONS, machine=BUSY),
        msgspec.structs.replace(row("fail"), verdict="fail", servers=other, machine=idle, title="the second"),
    ]
    text = shown(rows)
    assert "busy 78 %, stolen 1.2 %" in text
    assert "runs: 1 pass, 1 fail\nnot as expected: the second\n" in text
    assert "servers: pgbouncer 1.24.1, postgresql 17.12, rabbitmq 4.0.5, redis 8.0.2 and 8.0.3\n" in text
    assert "machine: busy 50 % to 78 %, at most 1.2 % stolen\n" in text
    suite = ET.fromstring(suite_junit("some", rows))
    (servers,) = suite.findall("properties/property")
    assert servers.get("value") == "pgbouncer 1.24.1, postgresql 17.12, rabbitmq 4.0.5, redis 8.0.2 and 8.0.3"
    first = {fact.get("name"): fact.get("value") for fact in suite.findall("testcase")[0].iter("property")}
    assert first["servers"] == "pgbouncer 1.24.1, postgresql 17.12, redis 8.0.2"
    assert (first["machine.busy_ratio"], first["machine.steal_ratio"]) == ("0.783", "0.0124")
    document = msgspec.json.decode(suite_json("some", rows))
    assert document["runs"][0]["machine"] == BUSY
    assert document["runs"][1]["servers"] == {"rabbitmq": ["4.0.5"], "redis": ["8.0.3"]}


def test_a_suite_of_which_nothing_is_known_says_no_more_than_that() -> None:
    text = shown([row("not run")])
    assert "runs: 1 not run\nnot as expected: <b>" in text
    assert not any(word in text for word in ("servers", "machine", "busy"))
    assert "runs: none" in shown([])


def shown(rows: list[SuiteRow]) -> str:
    console = Console(width=120, markup=False, record=True, force_terminal=False)
    console.print(suite_table("some", rows))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


def test_the_table_shows_text_as_text() -> None:
    text = shown([row("fail")])
    assert "[red]so" in text
    assert "\x1b" not in text


def test_a_title_stands_below_its_scenario() -> None:
    first, second = shown([msgspec.structs.replace(row("pass"), title="SIGKILL, 2 s")]).splitlines()[2:4]
    assert first.split()[1] == "one"
    assert second.strip().startswith("SIGKILL, 2 s")
