"""The shape of a Chaos Toolkit document that the harness relies on; everything else in such a file is refused.

What is refused would run, and undermine a verdict: controls fail open, dynamic configuration and secrets end in the
journal, other providers have no proof of effect, and background activities lose their errors.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from resilience.spec.convert import record_from, refuse
from resilience.spec.document import read_document
from resilience.spec.fault import FaultSpec, Target
from resilience.spec.record import Record
from resilience.spec.scenario import Experiment

ACTIONS = "resilience.chaos.actions"
PROBES = "resilience.chaos.probes"
Text = Annotated[str, Meta(min_length=1, max_length=2_000)]


class _ActionProvider(Record, frozen=True, kw_only=True):
    type: Literal["python"]
    module: Literal["resilience.chaos.actions"]
    func: Literal["hold_phase", "inject", "heal"]
    arguments: dict[str, Any] = field(default_factory=dict)


class _ProbeProvider(Record, frozen=True, kw_only=True):
    type: Literal["python"]
    module: Literal["resilience.chaos.probes"]
    func: Literal["in_effect", "healed", "members_running", "shards_replicated", "load_at_rate"]
    arguments: dict[str, Any] = field(default_factory=dict)


class _Pauses(Record, frozen=True, kw_only=True):
    before: Annotated[float, Meta(ge=0, le=600)] = 0.0
    after: Annotated[float, Meta(ge=0, le=600)] = 0.0


class _Action(Record, frozen=True, kw_only=True, tag_field="type", tag="action"):
    name: Text
    provider: _ActionProvider
    pauses: _Pauses | UnsetType = UNSET


class _Probe(Record, frozen=True, kw_only=True, tag_field="type", tag="probe"):
    name: Text
    provider: _ProbeProvider
    tolerance: bool | UnsetType = UNSET  # other tolerances are met or not by rules that surprise
    pauses: _Pauses | UnsetType = UNSET


class _FromEnvironment(Record, frozen=True, kw_only=True):
    """A number of seconds that the runner hands over; no other source of configuration is known before the run."""

    type: Literal["env"]
    key: Annotated[str, Meta(pattern=r"^RESILIENCE_[A-Z_]+_S$")]
    default: Annotated[float, Meta(ge=0, le=3_600)]
    env_var_type: Literal["float"]


class _Hypothesis(Record, frozen=True, kw_only=True):
    title: Text
    probes: Annotated[list[_Probe], Meta(min_length=1)]


class _Document(Record, frozen=True, kw_only=True):
    title: Text
    description: Text
    hypothesis: _Hypothesis = field(name="steady-state-hypothesis")
    method: Annotated[list[_Action | _Probe], Meta(min_length=1)]
    rollbacks: list[_Action | _Probe]
    version: str = "1.0.0"
    configuration: dict[str, _FromEnvironment] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    contributions: dict[str, str] = field(default_factory=dict)


class _Injecting(Record, frozen=True, kw_only=True):
    fault: FaultSpec
    target: Target


def experiment_from_file(path: Path, label: str) -> Experiment:
    """The experiment of a file. Raises `SpecError`."""
    value = read_document(path, label)
    document = record_from(value, _Document, label)
    for index, probe in enumerate(document.hypothesis.probes):
        if probe.tolerance is not True:  # chaoslib demands one, and false would turn the probe's meaning round
            raise refuse(label, f"steady-state-hypothesis.probes[{index}].tolerance", "expected true")
    injecting = _injecting(document, label)
    return Experiment(file=label, title=document.title, fault=injecting.fault, target=injecting.target, document=value)


def _injecting(document: _Document, label: str) -> _Injecting:
    """The one injection, after the order of the method has been checked: inject, proof, heal, proof."""
    names = [activity.provider.func for activity in document.method]
    for name in ("inject", "heal"):
        if names.count(name) != 1:
            raise refuse(label, "method", f"expected exactly one action {name} (got {names.count(name)})")
    inject, heal = names.index("inject"), names.index("heal")
    if heal < inject:
        raise refuse(label, f"method[{heal}]", "expected heal after inject")
    if "in_effect" not in names[inject:heal]:
        raise refuse(label, "method", "expected the probe in_effect between inject and heal")
    if "healed" not in names[heal:]:
        raise refuse(label, "method", "expected the probe healed after heal")
    rollbacks = [activity.provider.func for activity in document.rollbacks]
    if "heal" not in rollbacks or "inject" in rollbacks:
        raise refuse(label, "rollbacks", "expected heal, and no inject")
    return record_from(
        document.method[inject].provider.arguments, _Injecting, label, f".method[{inject}].provider.arguments"
    )
