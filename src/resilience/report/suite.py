"""What a suite ends with: a table for people, ``junit.xml`` and ``suite.json`` for programs."""

from collections.abc import Sequence
from typing import Literal
from xml.etree import ElementTree as ET

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

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
    (which is "" for one that has none). ``error``: the harness could not do its work.
    """

    scenario: str
    title: str
    result: Result
    verdict: str
    line: str  # the headline of the run, or why there is none
    took_s: float
    directory: str


def suite_code(rows: Sequence[SuiteRow]) -> int:
    """The exit code of a suite: 1 if any run fails, else 4 if the harness failed, else 3 if one is not sure, else 0."""
    results = {row.result for row in rows}
    for result, code in (("fail", 1), ("error", 4), ("inconclusive", 3), ("not run", 3)):
        if result in results:
            return code
    return 0 if rows else 3


def suite_table(name: str, rows: Sequence[SuiteRow]) -> RenderableType:
    """One line for each run, in the order of the suite."""
    table = Table(title=plain(f"suite {name}"), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "run", "result", "took", "what it says"):
        table.add_column(column, overflow="fold")
    for row in rows:
        mark, colour = _LOOK[row.result]
        said = row.result if row.verdict in {"", row.result} else f"{row.result} ({row.verdict}, as expected)"
        said = said if row.result == "pass" or row.verdict in {"", row.result} else f"{row.result} (was {row.verdict})"
        took = f"{row.took_s:.0f} s" if row.took_s else ""
        lines = [plain(row.scenario), plain(row.title, "dim")] if row.title else [plain(row.scenario)]
        table.add_row(Text(mark, colour), Text("\n").join(lines), plain(said), took, plain(row.line))
    return table


def suite_json(name: str, rows: Sequence[SuiteRow]) -> bytes:
    """``suite.json``: the rows and the exit code."""
    document = {"suite": name, "exit_code": suite_code(rows), "runs": msgspec.to_builtins(rows)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def suite_junit(name: str, rows: Sequence[SuiteRow]) -> bytes:
    """``junit.xml``: a test case for each run, in the order of the suite."""
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
    for row in rows:
        attributes = {
            "classname": xml_text(name),
            "name": xml_text(row.title or row.scenario),
            "time": f"{row.took_s:.1f}",
        }
        case = ET.SubElement(suite, "testcase", attributes)
        tag = {"fail": "failure", "error": "error", "inconclusive": "error", "not run": "skipped"}.get(row.result)
        if tag:
            ET.SubElement(case, tag, {"type": row.result, "message": xml_text(row.line)})
    ET.indent(suite)
    text: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return text + b"\n"
