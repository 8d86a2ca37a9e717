"""``report.html``: one file that opens anywhere, needs no network and says what the saved judgement says.

The page carries its styles, its scripts and the charts' numbers; a content security policy allows exactly these and
nothing from outside. Jinja escapes every text, after characters that do not show themselves were written out.
"""

import base64
import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import msgspec
from markupsafe import Markup

from resilience.check.finding import Finding, Judgement
from resilience.report.charts import Charts, charts_of
from resilience.report.chronicle import events_of, generator_charts, happenings, hits
from resilience.report.document import SpecFile
from resilience.report.evidence import Table, evidence_table, plain_json
from resilience.report.order import (
    broken_assumptions,
    control_text,
    headline_text,
    in_reading_order,
    is_assumption,
    is_loss,
    is_slo,
    is_undermined,
)
from resilience.report.overview import overview_svg
from resilience.report.run import Run
from resilience.report.text import shortened, visible, window_text

_HERE = "resilience.report"
_TEXT_MAX = 4_000  # characters of one text; the files beside the page have all of it
_LABEL_MAX = 200  # in a chart
_LISTED_MAX = 8  # passed checks; more of them are folded
_LOAD_WORDS = ("generator", "load", "schedule", "coverage", "totals")  # assumptions that speak of the generators
_STEPS = {
    "recovery.detected_s": "suspected by another member",
    "recovery.elected_s": "replica elected",
    "recovery.first_good_write_s": "first good write",
    "recovery.steady_again_s": "steady again",
}
_TILES = (
    ("recovery.first_good_write_s", "first good write after the fault", "{:.2f} s"),
    ("recovery.outage_s", "longest outage of a shard that was hit, at most", "{:.2f} s"),
    ("recovery.steady_again_s", "steady again after", "{:.2f} s"),
    ("recovery.postgresql.outage_s", "longest outage of PostgreSQL, at most", "{:.2f} s"),
    ("recovery.postgresql.operator_s", "of it until the operator began", "{:.2f} s"),
    ("recovery.rabbitmq.outage_s", "longest outage of RabbitMQ's consumers, at most", "{:.2f} s"),
    ("durability.acked_ops", "acknowledged writes audited", "{:,.0f}"),
    ("durability.lost_ops", "of them lost", "{:,.0f}"),
)
_SECTIONS = (
    ("findings", "Findings"),
    ("timeline", "Timeline"),
    ("recovery", "Recovery"),
    ("lost", "Lost writes"),
    ("members", "Members hit"),
    ("generator", "Load generator"),
    ("servers", "Servers"),
    ("run", "This run"),
    ("files", "Files"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A finding as the page lists it."""

    finding: Finding
    where: str
    window: str
    evidence: Table | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """Findings of one kind."""

    title: str
    rows: tuple[Row, ...]
    folded: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recovery; its bar is ``percent`` of the longest."""

    title: str
    text: str
    percent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The finding of a recovery, and its steps."""

    finding: Finding
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedFile:
    """A file beside the page."""

    name: str
    href: str
    size: str


def html_page(run: Run) -> Path:
    """Renders the saved judgement of a run to ``report.html`` and returns its path.

    Raises `SpecError` when what was saved cannot be read, `HostError` when the page cannot be written.
    """
    run.save_bytes(run.page, rendered(run).encode())
    return run.page


def rendered(run: Run) -> str:
    """The page of a run, from what is saved in its directory."""
    environment = _environment()
    spec, judgement, servers = run.load_spec(), run.load_judgement(), run.load_servers()
    styles = (_source("vendor/uPlot.min.css"), _source("templates/report.css"))
    scripts = (_source("vendor/uPlot.iife.min.js"), _source("templates/report.js"))
    return environment.get_template("report.html.j2").render(
        csp=_policy(styles, scripts),
        styles=styles,
        scripts=scripts,
        sections=_SECTIONS,
        verdict=judgement.verdict,
        run=spec,
        judgement=judgement,
        headline=headline_text(judgement),
        started=spec.started_utc.replace("T", " ").replace("+00:00", " UTC"),
        count=_count(judgement.findings),
        servers=[(member, list(_settings(config))) for member, config in sorted(servers.items())],
        otherwise=list(_otherwise(servers)),
        compared=any("differs" in described for described in servers.values()),
        control=control_text(judgement),
        facts=list(_facts(spec)),
        files=list(_files(run)),
        **_findings_part(judgement),
        **_timeline_part(environment, run, spec),
    )


def _findings_part(judgement: Judgement) -> dict[str, Any]:
    """What the page says of findings, recovery and losses."""
    ordered = in_reading_order(judgement.findings)
    return {
        "groups": list(_groups(ordered)),
        "health": [_row(finding) for finding in ordered if _is_of_load(finding)],
        "tiles": list(_tiles(judgement.measures)),
        "recoveries": list(_recoveries(judgement.findings)),
        "lost": [_loss_row(finding) for finding in ordered if is_loss(finding)],
        "losses": [finding for finding in ordered if is_loss(finding)],
        "loss_judged": any(finding.check.startswith("durability") for finding in judgement.findings),
    }


def _timeline_part(environment: jinja2.Environment, run: Run, spec: SpecFile) -> dict[str, Any]:
    """What the page says of the course of the run; empty for a run that was cut short before it was judged."""
    events = events_of(run)
    tables = [table for table in (happenings(events),) if table.rows]
    part: dict[str, Any] = {"charts": None, "tables": tables, "hits": hits(events, spec.scenario.stack)}
    if run.timeline.exists() and (charts := _all_charts(run, spec, generator_charts(events))).end:
        part |= {
            "charts": charts,
            "data": _inline_json(charts),
            "overview": overview_svg(environment, charts),
            "tables": [*_chart_tables(charts), *tables],
            "generator_charts": any(chart.section == "generator" for chart in charts.charts),
        }
    return part


def _all_charts(run: Run, spec: SpecFile, more: Sequence[Any]) -> Charts:
    charts = charts_of(run.load_timeline(), spec.scenario)
    return msgspec.structs.replace(charts, charts=(*charts.charts, *more))


def _chart_tables(charts: Charts) -> list[Table]:
    """The windows and lanes as texts, for whoever does not see the charts."""
    windows = [(window.label or window.name, window.text) for window in charts.phases]
    windows += [(f"fault: {window.label}", window.text) for window in charts.injections]
    windows += [(window.label, window.text) for window in charts.outages]
    roles = [
        (lane.label, span.label, f"{span.start:.3f} to {span.end:.3f} s")
        for lane in charts.lanes
        for span in lane.spans
    ]
    tables = [
        Table(title="Phases, the fault and outages", columns=("what", "when"), rows=tuple(windows)),
        Table(
            title="Brief outages, of under half a second",
            columns=("what", "when"),
            rows=tuple((window.label, window.text) for window in charts.brief_outages),
        ),
        Table(title="Roles over time", columns=("member", "role", "when"), rows=tuple(roles)),
    ]
    return [table for table in tables if table.rows]


def _groups(ordered: Sequence[Finding]) -> Iterable[RowGroup]:
    """What is not a pass comes first, causes before what they make meaningless; the rest by kind."""
    broken = broken_assumptions(ordered)
    passed = [finding for finding in ordered if finding.verdict == "pass"]
    undermined = [finding for finding in ordered if is_undermined(finding, broken)]
    bad = [finding for finding in ordered if finding.verdict != "pass" and finding not in undermined]
    checks = [finding for finding in passed if not is_slo(finding) and not is_assumption(finding)]
    kinds = (
        ("Not passed", bad, False),
        ("What rests on that and so means nothing", undermined, True),
        ("Service level objectives met", [finding for finding in passed if is_slo(finding)], False),
        ("Checks passed", checks, len(checks) > _LISTED_MAX),
        ("What the verdict rests on, and holds", [finding for finding in passed if is_assumption(finding)], True),
    )
    for title, findings, folded in kinds:
        if findings:
            yield RowGroup(title=title, rows=tuple(map(_row, findings)), folded=folded)


def _row(finding: Finding) -> Row:
    where = finding.where
    is_table = finding.evidence and not is_loss(finding)  # lost writes have a section of their own
    return Row(
        finding=finding,
        where=", ".join(place for place in (where.phase, where.group) if place),
        window=window_text(where.start_us, where.end_us),
        evidence=evidence_table("Evidence", finding.evidence, finding.evidence_total) if is_table else None,
    )


def _loss_row(finding: Finding) -> Row:
    """A finding of lost writes; each of them is listed with its shard."""
    evidence = ({**piece, "shard": finding.where.group} for piece in finding.evidence)
    table = evidence_table("Lost writes", evidence, finding.evidence_total)
    return dataclasses.replace(_row(finding), evidence=table)


def _is_of_load(finding: Finding) -> bool:
    return is_assumption(finding) and any(word in finding.check for word in _LOAD_WORDS)


def _recoveries(findings: Iterable[Finding]) -> Iterable[Recovery]:
    """The steps of each recovery that was measured, in the order in which a failover takes them."""
    for finding in findings:
        steps = {title: finding.measures[name] for name, title in _STEPS.items() if name in finding.measures}
        if steps:
            longest = max(*steps.values(), 0.0) or 1.0
            rows = tuple(
                Step(title, f"{value:.3f} s", f"{max(0.0, value / longest) * 100:.2f}")
                for title, value in steps.items()
            )
            yield Recovery(finding=finding, steps=rows)


def _tiles(measures: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    """The few numbers that everybody asks for first, as far as they were measured: name and value."""
    for name, title, form in _TILES:
        if name in measures:
            yield title, form.format(measures[name])


def _count(findings: Sequence[Finding]) -> str:
    """How many findings there are of each verdict, those that judge apart from what they rest on:
    ``12 findings of checks and objectives: 1 fail, 11 pass; 9 assumptions behind them: all hold``.
    """
    judged = [finding for finding in findings if not is_assumption(finding)]
    counts = Counter("known weakness" if finding.known else finding.verdict for finding in judged)
    words = ("fail", "inconclusive", "known weakness", "pass")
    parts = ", ".join(f"{counts[word]} {word}" for word in words if counts[word])
    text = f"{_number(len(judged), 'finding')} of checks and objectives{': ' if parts else ''}{parts}"
    if len(judged) == len(findings):
        return text
    broken = len(broken_assumptions(findings))
    held = f"{broken} {'does' if broken == 1 else 'do'} not hold" if broken else "all hold"
    return f"{text}; {_number(len(findings) - len(judged), 'assumption')} behind them: {held}"


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _otherwise(servers: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """A line for each directive that is not as the stack file has it, with the servers that have it so."""
    members: dict[str, list[str]] = {}
    for member, described in sorted(servers.items()):
        for name, told in described.get("differs", {}).items():
            members.setdefault(f"{name} {told}", []).append(member)
    for what, having in members.items():
        yield f"{what}: {', '.join(having)}"


def _settings(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in config.items():
        yield name, plain_json(value)


def _facts(spec: SpecFile) -> Iterable[tuple[str, str]]:
    """Name and value of everything that is needed to repeat the run."""
    stack, timeline = spec.scenario.stack, spec.scenario.timeline
    yield "scenario", f"{spec.scenario.name} ({spec.scenario.file})" if spec.scenario.file else spec.scenario.name
    yield "what it asks", spec.scenario.description or spec.scenario.title
    if spec.scenario.experiment:
        yield "experiment", spec.scenario.experiment.file
    yield "stack", f"{stack.name}, durability {plain_json(msgspec.to_builtins(stack.durability))}"
    phases = ("warmup", "steady", "fault", "recovery")
    yield "declared phases", ", ".join(f"{phase} {getattr(timeline, f'{phase}_s'):g} s" for phase in phases)
    yield "started", spec.started_utc
    yield "seed", str(spec.seed)
    yield "revision", spec.revision
    yield from ((f"version of {name}", version) for name, version in sorted(spec.versions.items()))
    yield from ((f"machine, {name}", plain_json(value)) for name, value in sorted(spec.host.items()))


def _files(run: Run) -> Iterable[LinkedFile]:
    for path, size in run.files():
        if path.name == run.page.name:
            continue
        yield LinkedFile(name=str(path), href=quote(os.fsencode(path)), size=_size_text(size))


def _size_text(size_bytes: int) -> str:
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1_000:.0f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1_000_000:.1f} MB"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return shortened(visible(value), _TEXT_MAX)
    return value


def _source(name: str) -> Markup:
    """A style or script of our own, to be put into the page as it is."""
    text = resources.files(_HERE).joinpath(*name.split("/")).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - our own files, nothing of a run


def _policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """Allows the page's own styles and scripts by their hashes, and nothing else."""
    allowed = {"script-src": scripts, "style-src": styles}
    parts = [f"{name} {' '.join(_hash(text) for text in texts)}" for name, texts in allowed.items()]
    return "; ".join(["default-src 'none'", *parts, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _inline_json(charts: Charts) -> Markup:
    r"""The charts for a script element: no text in it can end the element or begin a comment.

    Characters that do not show themselves are written out, as everywhere on the page.
    """
    plain = _all_visible(msgspec.to_builtins(charts))
    text = msgspec.json.encode(plain).decode()
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Markup(text)  # noqa: S704 - holds none of the characters that mean something to HTML


def _all_visible(value: Any) -> Any:
    if isinstance(value, str):
        return shortened(visible(value), _LABEL_MAX)
    if isinstance(value, dict):
        return {name: _all_visible(item) for name, item in value.items()}
    return [_all_visible(item) for item in value] if isinstance(value, list | tuple) else value
