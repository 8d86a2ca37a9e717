"""What a person sees in the terminal when a run has been judged: the verdict on one screen.

Everything is put together from `rich.text.Text`, never from markup, so that no text of the platform under test can
colour, link or move anything.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from resilience.check.finding import Finding, Judgement, Verdict
from resilience.report.evidence import pieces
from resilience.report.order import in_reading_order, is_loss
from resilience.report.text import visible, window_text

PIPE_WIDTH = 120  # columns where the output is no terminal
_LOST_SHOWN_MAX = 10  # the rest is in the report
_LOOK: Mapping[Verdict, tuple[str, str, str]] = {
    "pass": ("✓", "green", "PASS"),
    "fail": ("✗", "red", "FAIL"),
    "inconclusive": ("?", "yellow", "INCONCLUSIVE"),
}


def console_for(stream: TextIO) -> Console:
    """A console that colours only a terminal, heeds ``NO_COLOR``, and takes every text as it is."""
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=is_terminal,
        width=None if is_terminal else PIPE_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )


def can_move(console: Console, environment: Mapping[str, str]) -> bool:
    """Whether something may be redrawn in place: on a terminal that is not a dumb one, and not in CI."""
    return console.is_terminal and not console.is_dumb_terminal and not environment.get("CI")


def plain(text: str, style: str = "") -> Text:
    """Text of unknown origin for a console: control characters are shown, nothing is interpreted."""
    return Text(visible(text), style=style)


def verdict_screen(judgement: Judgement, page: Path, rerun: str) -> RenderableType:
    """Headline, each finding with measured, allowed and where, lost writes, where to look and how to repeat it."""
    parts: list[RenderableType] = [Text(""), _headline(judgement), Text("")]
    if judgement.findings:
        parts += [_findings(judgement.findings), Text("")]
    parts += [_lost(finding) for finding in judgement.findings if finding.verdict != "pass" and is_loss(finding)]
    parts += [_pointer("report", str(page)), _pointer("again", rerun)]
    return Group(*parts)


def _headline(judgement: Judgement) -> Text:
    _, colour, word = _LOOK[judgement.verdict]
    line = Text()
    line.append(f" {word} ", style=f"bold reverse {colour}")
    line.append("  ")
    line.append(visible(judgement.scenario), style="bold")
    line.append("  ")
    line.append(visible(judgement.headline))
    return line


def _findings(findings: Iterable[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    table.add_column("")
    table.add_column("finding", overflow="fold")
    table.add_column("measured", overflow="fold")
    table.add_column("allowed", overflow="fold")
    table.add_column("where", overflow="fold")
    for finding in in_reading_order(findings):
        mark, colour, _ = _LOOK[finding.verdict]
        table.add_row(
            Text(mark, style=colour), _title(finding), plain(finding.measured), plain(finding.allowed), _where(finding)
        )
    return table


def _title(finding: Finding) -> Text:
    if finding.verdict == "pass" or not finding.reason:
        return plain(finding.title)
    return Text.assemble(plain(finding.title, "bold"), "\n", plain(finding.reason))


def _where(finding: Finding) -> Text:
    where = finding.where
    places = [place for place in (where.phase, where.group) if place]
    if not places:
        places = [text for text in (window_text(where.start_us, where.end_us),) if text]
    return plain(", ".join(places), "dim")


def _lost(finding: Finding) -> RenderableType:
    """The first lost writes of a finding, one a line, and how many more there are."""
    lines = [Text.assemble(plain(finding.title, "bold"), f"  ({finding.evidence_total})")]
    shown = finding.evidence[:_LOST_SHOWN_MAX]
    lines += [
        Text.assemble("  ", plain("  ".join(f"{name} {value}" for name, value in pieces(evidence))))
        for evidence in shown
    ]
    more = finding.evidence_total - len(shown)
    if more > 0:
        lines.append(Text(f"  and {more} more, in the report", style="dim"))
    return Padding(Group(*lines), (0, 0, 1, 0))


def _pointer(word: str, target: str) -> Text:
    return Text.assemble((f"{word:<8}", "dim"), plain(target), overflow="fold")
