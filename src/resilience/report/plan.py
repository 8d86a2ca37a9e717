"""What a person reads before a run: what would be done, to whom, and how it would be judged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from resilience.report.terminal import plain
from resilience.spec.scenario import Scenario
from resilience.spec.slo import RatioSource, Slo
from resilience.spec.stack import Stack, Wait

_SIGNS = {"gte": "≥", "lte": "≤", "gt": ">", "lt": "<"}
_PHASES = {
    "warmup": "the load starts; nothing counts yet",
    "steady": "how the platform is without a fault",
    "fault": "injected, proved, held, proved again",
    "recovery": "healed, and the proof of it; how the platform comes back",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """What a fault would do to one stack; ``nothing``: why it would do nothing, "" if it would."""

    known: str  # where members and roles are known from
    nothing: str = ""
    nodes: tuple[str, ...] = ()
    members: tuple[tuple[str, str], ...] = ()  # name, and what it is
    besides: tuple[str, ...] = ()  # what the nodes take with them that is no member
    steps: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()  # who would suffer, and the rule by which that is allowed
    ttl_s: float = 0.0


def plan_screen(scenario: Scenario, faults: Sequence[FaultPlan], control: str) -> RenderableType:
    """The whole plan; ``faults``: the injection on each stack that it was worked out for, none without a fault;
    ``control``: what is known of the run without a fault that it rests on.
    """
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="bold", no_wrap=True)
    rows.add_column()
    for name, value in (("stack", _stack(scenario.stack)), ("load", _load(scenario)), ("phases", _timeline(scenario))):
        rows.add_row(name, value)
    rows.add_row("fault", Group(*_fault(scenario, faults)))
    rows.add_row("control", plain(control))
    rows.add_row("judged by", _judged(scenario))
    title = Text.assemble((scenario.name, "bold"), ": ", plain(scenario.title), f" (seed {scenario.seed})")
    return Group(title, Padding(rows, (1, 0, 1, 2)), Text("nothing was started or touched", style="dim"))


def _stack(stack: Stack) -> Text:
    durability = stack.durability
    mode = "async"
    if isinstance(durability, Wait):
        mode = f"wait for {durability.replicas} replicas, {durability.timeout_ms} ms"
    return plain(
        f"{stack.name}: {len(stack.members)} members on {', '.join(stack.nodes)} and beside them;"
        f" durability {mode}; cluster-node-timeout {stack.redis.cluster_node_timeout_ms} ms"
    )


def _load(scenario: Scenario) -> Text:
    load = scenario.load
    made_by = f", from {load.processes} processes," if load.processes > 1 else ","
    return plain(
        f"{load.session_rate_ops_per_s:g} session ops/s, {load.edit_rate_ops_per_s:g} edits/s{made_by}"
        f" {load.direct_rate_ops_per_s:g} direct writes/s to each of {len(scenario.stack.shards)} shards"
        f"{_articles(scenario)}{_rows(scenario)}{_messages(scenario)}{_suggestions(scenario)}"
    )


def _articles(scenario: Scenario) -> str:
    return "" if scenario.stack.content is None else f", {scenario.load.content_ops_per_s:g} ops/s on articles"


def _rows(scenario: Scenario) -> str:
    if scenario.stack.postgresql is None:
        return ""
    rate, registers = scenario.load.postgresql_ops_per_s, scenario.load.postgresql_register_rate_ops_per_s
    told = f", {rate:g} rows/s to PostgreSQL through PgBouncers and as many straight to its primary"
    if registers is not None:
        told += f", {registers:g} ops/s on registers there"
    if (transactions := scenario.load.postgresql_list_rate_ops_per_s) is not None:
        told += f", {transactions:g} transactions/s on lists there, {scenario.load.postgresql_isolation}"
    return told


def _messages(scenario: Scenario) -> str:
    if scenario.stack.rabbitmq is None:
        return ""
    rate = scenario.load.rabbitmq_ops_per_s
    return f", {rate:g} messages/s to each of {len(scenario.stack.load_queues)} queues, through each member in turn"


def _suggestions(scenario: Scenario) -> str:
    if scenario.stack.personalization is None:
        return ""
    return f", {scenario.load.personalization_ops_per_s:g} suggestions and interests/s"


def _timeline(scenario: Scenario) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for phase, what in _PHASES.items():
        length_s = getattr(scenario.timeline, f"{phase}_s")
        if length_s > 0:
            table.add_row(phase, f"{length_s:g} s", Text(what, style="dim"))
    table.add_row("in all", f"{scenario.timeline.total_s:g} s", Text("and set-up, audit and verdict", style="dim"))
    return table


def _fault(scenario: Scenario, faults: Sequence[FaultPlan]) -> Iterator[RenderableType]:
    if scenario.experiment is None:
        yield Text("none: this scenario asks whether the platform is well without one")
        return
    yield plain(f"{scenario.experiment.title} ({scenario.experiment.file})")
    for fault in faults:
        yield plain(fault.known, "underline")
        yield _injection(fault)


def _injection(fault: FaultPlan) -> RenderableType:
    if fault.nothing:
        return Padding(plain(f"nothing would be injected: {fault.nothing}", "yellow"), (0, 0, 0, 2))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    if fault.nodes:
        table.add_row("node", plain(", ".join(fault.nodes)))
    _add_list(table, "takes with it" if fault.nodes else "member", [f"{name} ({what})" for name, what in fault.members])
    _add_list(table, "and besides", fault.besides)
    _add_list(table, "steps", [f"{number}. {step}" for number, step in enumerate(fault.steps, start=1)] or ["none"])
    _add_list(table, "proved by", fault.proofs)
    _add_list(table, "allowed", fault.allowed)
    table.add_row("healed", f"after the phase fault; by itself {fault.ttl_s:g} s after the injection, whatever happens")
    return Padding(table, (0, 0, 0, 2))


def _add_list(table: Table, name: str, lines: Sequence[str]) -> None:
    for index, line in enumerate(lines):
        table.add_row("" if index else name, plain(line))


def _judged(scenario: Scenario) -> Group:
    slos = [plain(_slo(slo)) for slo in scenario.slos]
    checks = ", ".join(scenario.checks) or "all"
    return Group(*slos, plain(f"checks: {checks}"))


def _slo(slo: Slo) -> str:
    target = f"{slo.target * 100:g} %" if isinstance(slo.source, RatioSource) else f"{slo.target:g} {slo.source.unit}"
    return f"{slo.title}: {_SIGNS[slo.op]} {target} in phase {', '.join(slo.phases)}"
