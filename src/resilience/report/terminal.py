"""What a person sees in the terminal when a run has been judged: the verdict on one screen.

Everything is put together from `rich.text.Text`, never from markup, so that no text of the platform under test can
colour, link or move anything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from resilience.check.finding import Finding, Judgement, Verdict
from resilience.report.evidence import pieces
from resilience.report.order import (
    broken_assumptions,
    control_text,
    headline_text,
    in_reading_order,
    is_assumption,
    is_loss,
    is_undermined,
)
from resilience.report.text import shortened, visible, window_text

_TEXT_MAX = 4_000  # characters of one text, a path among them; the files beside the report have all of it
_MESSAGE_MAX = 1_000  # characters of an error
WIDTH_MIN, WIDTH_MAX = 20, 500  # columns; the environment may say anything
PIPE_WIDTH = 120  # columns where the output is no terminal
_LOST_SHOWN_MAX = 5  # the rest is in the report
_LOSS_FIELDS = ("what", "op", "key", "acked", "before the fault", "allowed", "detail")
_ALLOWED_WIDTH = 28  # columns
_SAME_SHOWN_MAX = 4  # passed findings of one check that are listed one by one
_LOOK: Mapping[Verdict, tuple[str, str, str]] = {
    "pass": ("✓", "green", "PASS"),
    "fail": ("✗", "red", "FAIL"),
    "inconclusive": ("?", "yellow", "INCONCLUSIVE"),
}


def console_for(stream: TextIO) -> Console:
    """A console that colours only a terminal, heeds ``NO_COLOR``, and takes every text as it is."""
    is_terminal = stream.isatty()
    console = Console(
        file=stream,
        force_terminal=is_terminal,
        width=None if is_terminal else PIPE_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )
    console.width = min(max(console.width, WIDTH_MIN), WIDTH_MAX)
    return console


def can_move(console: Console, environment: Mapping[str, str]) -> bool:
    """Whether something may be redrawn in place: on a terminal that is not a dumb one, and not in CI."""
    return console.is_terminal and not console.is_dumb_terminal and not environment.get("CI")


def one_line(text: str) -> str:
    """A message for a person: one line whatever is in it, not endless."""
    return shortened(visible(text), _MESSAGE_MAX)


def plain(text: str, style: str = "") -> Text:
    """Text of unknown origin for a console: control characters are shown, nothing is interpreted or endless."""
    return Text(shortened(visible(text), _TEXT_MAX), style=style)


def verdict_screen(judgement: Judgement, page: Path, rerun: str) -> RenderableType:
    """Headline, each finding with measured, allowed and where, lost writes, where to look and how to repeat it."""
    ordered = in_reading_order(judgement.findings)
    broken = broken_assumptions(ordered)
    passed = [finding for finding in ordered if finding.verdict == "pass"]
    undermined = [finding for finding in ordered if is_undermined(finding, broken)]
    parts: list[RenderableType] = [Text(""), _headline(judgement), Text("")]
    parts += [_not_passed(item) for item in ordered if item.verdict != "pass" and not is_undermined(item, broken)]
    parts += [_undermined(undermined), Text("")] if undermined else []
    parts += [_listed(passed, "pass"), Text("")] if passed else []
    pointers = {"control": control_text(judgement), "report": str(page), "again": rerun}
    return Group(*parts, *(_pointer(word, target) for word, target in pointers.items() if target))


def _headline(judgement: Judgement) -> Text:
    _, colour, word = _LOOK[judgement.verdict]
    badge = Text(f" {word} ", style=f"bold reverse {colour}")
    return Text("  ").join([badge, plain(judgement.scenario, "bold"), plain(headline_text(judgement))])


def _not_passed(finding: Finding) -> RenderableType:
    """All of a finding that needs somebody's attention, with the first writes that it speaks of."""
    mark, colour, _ = _LOOK[finding.verdict]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", width=8)
    facts.add_column(overflow="fold")
    for name, value in _facts(finding):
        if value:
            facts.add_row(name, plain(value))
    again = ("known weakness, seen again: ", "yellow") if finding.known else ""
    title = Text.assemble((f"{mark} ", colour), again, plain(finding.title, "bold"))
    lost = _evidence_lines(finding) if is_loss(finding) else []
    return Group(title, Padding(Group(facts, *lost), (0, 0, 1, 2)))


def _facts(finding: Finding) -> Iterable[tuple[str, str]]:
    where = finding.where
    places = (where.phase, where.group, window_text(where.start_us, where.end_us))
    yield "why", finding.reason
    yield "known", finding.known
    yield "measured", finding.measured
    yield "allowed", finding.allowed
    yield "where", ", ".join(place for place in places if place)


def _evidence_lines(finding: Finding) -> list[Text]:
    """The first pieces of evidence, one a line, and how many more there are."""
    shown = finding.evidence[:_LOST_SHOWN_MAX]
    lines = [plain(_loss_text(dict(pieces(piece)))) for piece in shown]
    more = finding.evidence_total - len(shown)
    return [*lines, Text(f"and {more:,} more, in the report", style="dim")] if more > 0 else lines


def _loss_text(piece: Mapping[str, str]) -> str:
    """A lost write on one line: what identifies it, and when it was acknowledged."""
    named = {name: piece.get(name, "") for name in _LOSS_FIELDS}
    return "  ".join(f"{name} {value}".removeprefix("what ") for name, value in named.items() if value)


def _undermined(findings: Sequence[Finding]) -> RenderableType:
    """Findings that say nothing, since what they rest on does not hold: a few in full, many by their number."""
    title = f"{len(findings)} more of no meaning, since they rest on what does not hold"
    if len(findings) <= _SAME_SHOWN_MAX:
        return Group(plain(title, "bold"), _listed(findings, "inconclusive"))
    counts = Counter(finding.check.partition(".")[0] for finding in findings)
    kinds = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    mark, colour, _ = _LOOK["inconclusive"]
    return Text.assemble((f"{mark} ", colour), plain(title, "bold"), plain(f": {kinds}; each is in the report"))


def _listed(findings: Iterable[Finding], verdict: Verdict) -> Table:
    """One line for each; many of the same check become one, and so do the assumptions."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", width=1)
    for name, width in (("finding", None), ("measured", None), ("allowed", _ALLOWED_WIDTH)):
        table.add_column(name, overflow="fold", max_width=width)
    mark, colour, _ = _LOOK[verdict]
    for name, group in _by_check(findings).items():
        if len(group) > _SAME_SHOWN_MAX or name == "assumption":
            table.add_row(Text(mark, colour), *_folded(name, group))
            continue
        for finding in group:
            title = Text.assemble(plain(finding.title), plain(_unsaid(finding), "dim"))
            table.add_row(Text(mark, colour), title, plain(finding.measured), plain(finding.allowed))
    return table


def _by_check(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault("assumption" if is_assumption(finding) else finding.check, []).append(finding)
    return groups


def _folded(name: str, group: Sequence[Finding]) -> tuple[Text, ...]:
    """A row for many passed findings of one check, with what was measured where it was nearest to its bound."""
    if name == "assumption":
        return (plain(f"what the verdict rests on: {len(group)} assumptions hold"),)
    title = f"{name}: {len(group)} findings"
    ratios = [finding for finding in group if finding.unit == "ratio" and finding.value is not None]
    least = min(ratios, key=lambda finding: finding.value or 0.0, default=None)
    if least is None:
        return (plain(title),)
    return plain(f"{title}, the least: {least.title}"), plain(least.measured), plain(least.allowed)


def _unsaid(finding: Finding) -> str:
    """Where a finding holds, as far as its title does not say so."""
    places = (finding.where.phase, finding.where.group)
    unsaid = ", ".join(place for place in places if place and place not in finding.title)
    return f" · {unsaid}" if unsaid else ""


def _pointer(word: str, target: str) -> Text:
    return Text.assemble((f"{word:<8}", "dim"), plain(target), overflow="fold")
