"""What a suite ends with: a table for people, ``junit.xml`` and ``suite.json`` for programs."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal
from xml.etree import ElementTree as ET

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from resilience.report.junit import properties
from resilience.report.terminal import plain
from resilience.report.text import xml_text

Result = Literal["pass", "fail", "inconclusive", "error", "not run"]
_LOOK: dict[Result, tuple[str, str]] = {
    "pass": ("✓", "green"),
    "fail": ("✗", "red"),
    "inconclusive": ("?", "yellow"),
    "error": ("!", "red"),
    "not run": ("-", "dim"),
}


class SuiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one run of a suite.

    ``result`` is that of the suite: a run that ended as it was expected to is a pass, whatever its own ``verdict``
    (which is "" for one that has none). ``error``: the harness could not do its work. ``servers`` are the versions that
    answered, by component; ``machine`` is how busy the machine was, as a ``pressure`` event says it.
    """

    scenario: str
    title: str
    result: Result
    verdict: str
    line: str  # the headline of the run, or why there is none
    took_s: float
    directory: str
    servers: dict[str, tuple[str, ...]] = {}
    machine: dict[str, float] = {}


def suite_code(rows: Sequence[SuiteRow]) -> int:
    """The exit code of a suite: 1 if any run fails, else 4 if the harness failed, else 3 if one is not sure, else 0."""
    results = {row.result for row in rows}
    for result, code in (("fail", 1), ("error", 4), ("inconclusive", 3), ("not run", 3)):
        if result in results:
            return code
    return 0 if rows else 3


def suite_table(name: str, rows: Sequence[SuiteRow]) -> RenderableType:
    """Each run, in the order of the suite; below them what they come to, and on what they ran."""
    table = Table(title=plain(f"suite {name}"), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "run", "result", "what it says"):
        table.add_column(column, overflow="fold")
    for row in rows:
        mark, colour = _LOOK[row.result]
        run = [plain(row.scenario), plain(row.title, "dim")] if row.title else [plain(row.scenario)]
        result = [plain(_result(row)), *(plain(text, "dim") for text in (_took(row), _burden(row.machine)) if text)]
        table.add_row(Text(mark, colour), Text("\n").join(run), Text("\n").join(result), plain(row.line))
    return Group(table, *map(plain, _totals(rows)))


def _result(row: SuiteRow) -> str:
    if row.verdict in {"", row.result}:
        return row.result
    return f"{row.result} ({row.verdict}, as expected)" if row.result == "pass" else f"{row.result} (was {row.verdict})"


def _took(row: SuiteRow) -> str:
    return f"{row.took_s:.0f} s" if row.took_s else ""


def _burden(machine: Mapping[str, float]) -> str:
    """How busy a machine was, and how much of it its host gave to others; "" if that was not measured."""
    if not machine:
        return ""
    return f"busy {_percent(machine['busy_ratio'])}, stolen {_percent(machine['steal_ratio'], 1)}"


def _percent(ratio: float, digits: int = 0) -> str:
    return f"{100 * ratio:.{digits}f} %"


def _totals(rows: Sequence[SuiteRow]) -> Iterator[str]:
    tally = Counter(row.result for row in rows)
    results = ", ".join(f"{tally[result]} {result}" for result in _LOOK if tally[result])
    yield f"runs: {results or 'none'}"
    if amiss := [row.title or row.scenario for row in rows if row.result != "pass"]:
        yield f"not as expected: {'; '.join(amiss)}"
    if servers := _servers(rows):
        yield f"servers: {servers}"
    if measured := [row.machine for row in rows if row.machine]:
        busy = [machine["busy_ratio"] for machine in measured]
        stolen = max(machine["steal_ratio"] for machine in measured)
        yield f"machine: busy {_percent(min(busy))} to {_percent(max(busy))}, at most {_percent(stolen, 1)} stolen"


def _servers(rows: Sequence[SuiteRow]) -> str:
    """All versions that answered in these runs."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for component, versions in row.servers.items():
            found.setdefault(component, set()).update(map(_number, versions))
    return ", ".join(f"{component} {' and '.join(sorted(versions))}" for component, versions in sorted(found.items()))


def _number(version: str) -> str:
    """The number in what a server calls its version: ``17.12 (Debian 17.12-0+deb13u1)``, ``PgBouncer 1.24.1``."""
    number = re.search(r"\d\S*", version)
    return number[0] if number else version


def suite_json(name: str, rows: Sequence[SuiteRow]) -> bytes:
    """``suite.json``: the rows and the exit code."""
    document = {"suite": name, "exit_code": suite_code(rows), "runs": msgspec.to_builtins(rows)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def suite_junit(name: str, rows: Sequence[SuiteRow]) -> bytes:
    """``junit.xml``: a test case for each run, in the order of the suite, with what it ran on."""
    suite = ET.Element(
        "testsuite",
        {
            "name": xml_text(name),
            "tests": str(len(rows)),
            "failures": str(sum(row.result == "fail" for row in rows)),
            "errors": str(sum(row.result in {"error", "inconclusive"} for row in rows)),
            "skipped": str(sum(row.result == "not run" for row in rows)),
        },
    )
    if servers := _servers(rows):
        suite.append(properties({"servers": servers}))
    for row in rows:
        attributes = {
            "classname": xml_text(name),
            "name": xml_text(row.title or row.scenario),
            "time": f"{row.took_s:.1f}",
        }
        case = ET.SubElement(suite, "testcase", attributes)
        if row.verdict:
            case.append(properties(_facts(row)))
        tag = {"fail": "failure", "error": "error", "inconclusive": "error", "not run": "skipped"}.get(row.result)
        if tag:
            ET.SubElement(case, tag, {"type": row.result, "message": xml_text(row.line)})
    ET.indent(suite)
    text: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _facts(row: SuiteRow) -> dict[str, str]:
    facts = {"scenario": row.scenario, "verdict": row.verdict, "directory": row.directory, "servers": _servers([row])}
    return facts | {f"machine.{name}": f"{value:g}" for name, value in row.machine.items()}
