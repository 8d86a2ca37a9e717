"""A suite: one run after the other, each compared with what it is expected to end with."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from resilience.check.compose import ASSUMPTIONS, checks_of
from resilience.check.finding import Judgement
from resilience.check.weakness import NAME as WEAKNESS
from resilience.errors import HarnessError
from resilience.history.control import read_identity
from resilience.outside import INTERRUPTED_CODES, Ended, Wanted
from resilience.report.order import decisive
from resilience.report.suite import Result, SuiteRow
from resilience.spec.convert import did_you_mean, refuse
from resilience.spec.read import SUITES
from resilience.spec.scenario import Scenario
from resilience.spec.suite import Expectation, Suite, SuiteRun

_NAMES = {"redis": "Redis", "rabbitmq": "RabbitMQ", "postgresql": "PostgreSQL"}
RunOne = Callable[[Wanted], Ended]
Say = Callable[[str], None]


def require_known_findings(suite: Suite) -> None:
    """Raises `SpecError` if a run is expected to end by a finding that its scenario cannot have."""
    for run, scenario in zip(suite.runs, suite.scenarios, strict=True):
        for field, names in {"by": run.expect.by, "besides": run.expect.besides}.items():
            for name in names:
                _require_known(name, scenario, f"{suite.name}: {run.title or run.scenario}: expect.{field}")


def _require_known(name: str, scenario: Scenario, field: str) -> None:
    """A check may have findings of its own name and of longer ones: ``blast-radius.people``."""
    checks = checks_of(scenario)
    known = {*checks, *ASSUMPTIONS, *(f"slo.{slo.name}" for slo in scenario.slos), WEAKNESS}
    if name not in known and (name.startswith("slo.") or not name.startswith(tuple(f"{check}." for check in checks))):
        raise refuse(SUITES, field, f"expected a check, slo.NAME or an assumption{did_you_mean(name, known)}", name)


def run_suite(suite: Suite, reports: Path, seed: int | None, run_one: RunOne, say: Say) -> list[SuiteRow]:
    """Runs all of a suite; a row for each run, also for those that never ran because somebody ended it."""
    rows: list[SuiteRow] = []
    interrupted = False
    for number, run in enumerate(suite.runs, start=1):
        if interrupted:
            rows.append(_row(run, "not run", line="the suite was ended before"))
            continue
        say(f"suite {suite.name}: {number} of {len(suite.runs)}: {run.scenario}{' · ' if run.title else ''}{run.title}")
        wanted = Wanted(scenario=run.scenario, overrides=run.overrides, seed=seed, reports=reports)
        began = time.monotonic()
        try:
            ended = run_one(wanted)
        except HarnessError as error:
            rows.append(_row(run, "error", line=str(error), took_s=time.monotonic() - began))
            continue
        interrupted = ended.code in INTERRUPTED_CODES
        rows.append(_row_of(run, ended))
    return rows


def _row_of(run: SuiteRun, ended: Ended) -> SuiteRow:
    judgement = ended.judgement
    if judgement is None and ended.code in INTERRUPTED_CODES:
        return _row(run, "not run", line="it was ended before it began, or while its control was taken")
    if judgement is None:
        return _row(run, "error", ended, line=f"it ended before it began to record (exit {ended.code})")
    if ended.code == HarnessError.exit_code:
        return _row(run, "error", ended, line=judgement.headline)
    if strange := strange_server(run.expect, ended.directory):
        return _row(run, "inconclusive", ended, line=f"{strange}; {judgement.headline}")
    missed = missed_expectation(run.expect, judgement)
    result: Result = "pass" if not missed else "inconclusive" if judgement.verdict == "inconclusive" else "fail"
    return _row(run, result, ended, line=f"{missed}; {judgement.headline}" if missed else judgement.headline)


def strange_server(expect: Expectation, directory: Path | None) -> str:
    """Why an expectation says nothing about a run: a server is of another series. "" if it does."""
    if not expect.series:
        return ""
    versions = _versions(directory)
    return "; ".join(
        strange for name, series in expect.series.items() if (strange := _strange(name, series, versions.get(name, ())))
    )


def _versions(directory: Path | None) -> dict[str, tuple[str, ...]]:
    """Which servers answered in a run, by component; nothing if that is not on record."""
    identity = read_identity(directory) if directory else None
    return identity.versions if identity else {}


def _strange(component: str, series: str, versions: tuple[str, ...]) -> str:
    expected = f"expected is what {_NAMES[component]} {series} does"
    if not versions:
        return f"{expected}, and which one answered is not on record"
    others = [version for version in versions if not f"{version}.".startswith(f"{series}.")]
    return f"{expected}, and {', '.join(others)} answered: it needs a row of its own" if others else ""


def missed_expectation(expect: Expectation, judgement: Judgement) -> str:
    """What of a judgement is not as it is expected to be, "" if all is."""
    if judgement.verdict not in expect.verdicts:
        return f"expected {' or '.join(expect.verdicts)}"
    found = decisive(judgement)
    if missing := [name for name in expect.by if name not in found]:
        return f"expected {expect.verdict} by {', '.join(missing)}, was by {', '.join(sorted(found))}"
    if others := sorted(found - {*expect.by, *expect.besides}):
        only = ", ".join(expect.by or expect.besides)
        return f"expected {judgement.verdict} by nothing but {only}, was by {', '.join(others)} as well"
    for name, (least, most) in expect.measures.items():
        value = judgement.measures.get(name)
        if value is None:
            return f"{name} was not measured, expected {least:g} to {most:g}"
        if not least <= value <= most:
            return f"{name} is {value:g}, expected {least:g} to {most:g}"
    return ""


def _row(run: SuiteRun, result: Result, ended: Ended | None = None, *, line: str, took_s: float = 0.0) -> SuiteRow:
    """A run's row; ``ended`` is None for one that never ran, or that an error ended after ``took_s``."""
    row = SuiteRow(
        scenario=run.scenario, title=run.title, result=result, verdict="", line=line, took_s=took_s, directory=""
    )
    if ended is None:
        return row
    return msgspec.structs.replace(
        row,
        verdict=ended.judgement.verdict if ended.judgement else "",
        took_s=ended.took_s,
        directory=str(ended.directory or ""),
        servers=_versions(ended.directory),
        machine=dict(ended.machine),
    )
