"""The shape of a Chaos Toolkit document that the harness relies on; everything else in such a file is refused.

What is refused would run, and undermine a verdict: controls fail open, dynamic configuration and secrets end in the
journal, other providers have no proof of effect, background activities lose their errors, and pauses stretch phases.
Phases last as long as the scenario says: their lengths come from the environment (`CONFIGURATION`), never from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from resilience.spec.convert import record_from, refuse
from resilience.spec.document import read_document
from resilience.spec.fault import FaultSpec, Prelude, Target
from resilience.spec.postgresql import Runbook
from resilience.spec.record import Record
from resilience.spec.scenario import Experiment

CONFIGURATION = {
    "steady_s": "RESILIENCE_STEADY_S",
    "fault_s": "RESILIENCE_FAULT_S",
    "recovery_s": "RESILIENCE_RECOVERY_S",
}
# The method's steps, in this order; probes of the steady state may stand between them.
METHOD = (
    "hold_phase steady",
    "inject",
    "in_effect injected",
    "hold_phase fault",
    "in_effect before-heal",
    "heal request",
    "healed",
    "hold_phase recovery",
)
# What a person does about a lost primary of PostgreSQL: each may stand behind the step that it is named after.
RUNBOOK = {"in_effect injected": ("cancel_waiting", "promote"), "healed": ("rejoin",)}
ROLLBACKS = ("heal rollback",)
_STEADY_STATE = frozenset(
    {"members_running", "shards_replicated", "postgresql_replicated", "queues_replicated", "load_at_rate"}
)
Text = Annotated[str, Meta(min_length=1, max_length=2_000)]


class _ActionProvider(Record, frozen=True, kw_only=True):
    type: Literal["python"]
    module: Literal["resilience.chaos.actions"]
    func: Literal["hold_phase", "inject", "cancel_waiting", "promote", "rejoin", "heal"]
    arguments: dict[str, Any] = field(default_factory=dict)


class _ProbeProvider(Record, frozen=True, kw_only=True):
    type: Literal["python"]
    module: Literal["resilience.chaos.probes"]
    func: Literal[
        "in_effect",
        "healed",
        "members_running",
        "shards_replicated",
        "postgresql_replicated",
        "queues_replicated",
        "load_at_rate",
    ]
    arguments: dict[str, Any] = field(default_factory=dict)


class _Action(Record, frozen=True, kw_only=True, tag_field="type", tag="action"):
    name: Text
    provider: _ActionProvider


class _Probe(Record, frozen=True, kw_only=True, tag_field="type", tag="probe"):
    name: Text
    provider: _ProbeProvider
    tolerance: bool | UnsetType = UNSET


class _SteadyProbe(Record, frozen=True, kw_only=True):
    """A probe where nothing else may stand: the toolkit wants its type all the same."""

    type: Literal["probe"]
    name: Text
    provider: _ProbeProvider
    tolerance: bool | UnsetType = UNSET  # other tolerances are met or not by rules that surprise


_Activity = _Action | _Probe | _SteadyProbe


class _Hypothesis(Record, frozen=True, kw_only=True):
    title: Text
    probes: Annotated[list[_SteadyProbe], Meta(min_length=1, max_length=50)]


class _FromEnvironment(Record, frozen=True, kw_only=True):
    """A number of seconds that the runner hands over; the default serves `chaos validate`, not a run."""

    type: Literal["env"]
    key: Text
    env_var_type: Literal["float"]
    default: Annotated[float, Meta(ge=0, le=3_600)] | UnsetType = UNSET


class _Configuration(Record, frozen=True, kw_only=True):
    steady_s: _FromEnvironment
    fault_s: _FromEnvironment
    recovery_s: _FromEnvironment


class _Document(Record, frozen=True, kw_only=True):
    title: Text
    description: Text
    configuration: _Configuration
    hypothesis: _Hypothesis = field(name="steady-state-hypothesis")
    method: Annotated[list[_Action | _Probe], Meta(min_length=1, max_length=50)]
    rollbacks: Annotated[list[_Action | _Probe], Meta(max_length=50)]
    version: str = "1.0.0"
    tags: Annotated[tuple[Text, ...], Meta(max_length=50)] = ()
    contributions: dict[str, str] = field(default_factory=dict)


class _Nothing(Record, frozen=True, kw_only=True):
    """The arguments of a function that takes none."""


class _Holding(Record, frozen=True, kw_only=True):
    phase: Literal["steady", "fault", "recovery"]
    duration_s: Text


class _Injecting(Record, frozen=True, kw_only=True):
    fault: FaultSpec
    target: Target
    prelude: Prelude | None = None


class _Proving(Record, frozen=True, kw_only=True):
    when: Literal["injected", "before-heal"]


class _Healing(Record, frozen=True, kw_only=True):
    by: Literal["request", "rollback"] = "request"


class _Cancelling(Record, frozen=True, kw_only=True):
    for_s: Annotated[float, Meta(ge=0.1, le=10)]


_ARGUMENTS: Mapping[str, type[Record]] = {
    "hold_phase": _Holding,
    "inject": _Injecting,
    "cancel_waiting": _Cancelling,
    "promote": Runbook,
    "in_effect": _Proving,
    "heal": _Healing,
}


def experiment_from_file(path: Path, label: str) -> Experiment:
    """The experiment of a file. Raises `SpecError`."""
    value = read_document(path, label)
    document = record_from(value, _Document, label)
    _check_configuration(document.configuration, label)
    for where in _substituted(value):
        raise refuse(label, where, "expected no ${…}: the toolkit would replace it, and only duration_s may have one")
    for index, probe in enumerate(document.hypothesis.probes):
        where = f"steady-state-hypothesis.probes[{index}]"
        _step(probe, label, where)
        if probe.tolerance is not True:  # chaoslib demands one, and false would turn the probe's meaning round
            raise refuse(label, f"{where}.tolerance", "expected true")
    injecting = _injecting(document.method, label)
    runbook = _runbook(document.method)
    _check_steps(document.method, _with_runbook(runbook), label, "method")
    _check_steps(document.rollbacks, ROLLBACKS, label, "rollbacks")
    return Experiment(
        file=label,
        title=document.title,
        fault=injecting.fault,
        target=injecting.target,
        document=value,
        prelude=injecting.prelude,
        promotes="promote" in runbook,
        cancels="cancel_waiting" in runbook,
        rejoins="rejoin" in runbook,
        runbook=_promoting(document.method, label),
    )


def _runbook(method: Sequence[_Activity]) -> frozenset[str]:
    known = {step for steps in RUNBOOK.values() for step in steps}
    return frozenset(activity.provider.func for activity in method) & known


def _with_runbook(runbook: frozenset[str]) -> tuple[str, ...]:
    """The method's steps with those of the runbook that it has."""
    return tuple(step for one in METHOD for step in (one, *RUNBOOK.get(one, ())) if step in METHOD or step in runbook)


def _substituted(value: Any, where: str = "") -> Iterator[str]:
    """Where in a document the toolkit would put something else in a text's place, but for the phases' lengths."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "duration_s":
                yield from _substituted(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _substituted(item, f"{where}[{index}]")
    elif isinstance(value, str) and "${" in value:
        yield where


def _check_configuration(configuration: _Configuration, label: str) -> None:
    for name, key in CONFIGURATION.items():
        given = getattr(configuration, name).key
        if given != key:
            raise refuse(label, f"configuration.{name}.key", f"expected {key}", given)


def _injecting(method: Sequence[_Activity], label: str) -> _Injecting:
    """The arguments of the one injection."""
    found = [
        arguments
        for index, activity in enumerate(method)
        if isinstance(arguments := _arguments(activity, label, f"method[{index}]"), _Injecting)
    ]
    if len(found) != 1:
        raise refuse(label, "method", f"expected exactly one action inject (got {len(found)})")
    return found[0]


def _promoting(method: Sequence[_Activity], label: str) -> Runbook:
    """How the last step that promotes does it."""
    found = Runbook()
    for index, activity in enumerate(method):
        arguments = _arguments(activity, label, f"method[{index}]")
        found = arguments if isinstance(arguments, Runbook) else found
    return found


def _check_steps(activities: Sequence[_Activity], expected: Sequence[str], label: str, where: str) -> None:
    """The steps are the expected ones, in their order; probes of the steady state are left out."""
    steps = {index: _step(activity, label, f"{where}[{index}]") for index, activity in enumerate(activities)}
    steps = {index: step for index, step in steps.items() if step not in _STEADY_STATE}
    for (index, step), wanted in zip(steps.items(), expected, strict=False):
        if step != wanted:
            raise refuse(label, f"{where}[{index}]", f"expected {wanted} here", step)
    if len(steps) != len(expected):
        raise refuse(label, where, f"expected the steps {', '.join(expected)} (got {len(steps)} of them)")


def _step(activity: _Activity, label: str, where: str) -> str:
    """An activity in short: its function and what tells two of them apart."""
    arguments = _arguments(activity, label, where)
    match arguments:
        case _Holding():
            expected = "${" + arguments.phase + "_s}"
            if arguments.duration_s != expected:
                field_of_it = f"{where}.provider.arguments.duration_s"
                raise refuse(label, field_of_it, f"expected {expected}", arguments.duration_s)
            return f"hold_phase {arguments.phase}"
        case _Proving():
            return f"in_effect {arguments.when}"
        case _Healing():
            return f"heal {arguments.by}"
        case _:
            return activity.provider.func


def _arguments(activity: _Activity, label: str, where: str) -> Record:
    provider = activity.provider
    record = _ARGUMENTS.get(provider.func, _Nothing)
    return record_from(provider.arguments, record, label, f".{where}.provider.arguments")
