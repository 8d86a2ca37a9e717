"""The fingerprint of a control: each ingredient changes it, alone; what is no ingredient does not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from resilience.errors import SpecError
from resilience.spec.control import control_of
from resilience.spec.fingerprint import Fingerprint, differing, digest_without_absent, fingerprint
from resilience.spec.load import Load
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Wait
from tests.histories import SLOS, availability_slo, baseline, measured_slo, scenario

HOST = {"kernel": "6.12.0", "architecture": "x86_64", "cpus": 2, "memory_bytes": 8_000_000_000, "boot_id": "f2c1"}


def made(
    about: Scenario, *, harness: str = "d4", servers: str = "image e5", host: dict[str, Any] | None = None
) -> Fingerprint:
    return fingerprint(about, harness=harness, servers=servers, host=host or HOST)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    changed: Callable[[], Fingerprint]
    words: tuple[str, ...] = ()  # in what it differs then


def of(**fields: Any) -> Callable[[], Fingerprint]:
    return lambda: made(replace(baseline(), **fields))


def on(**facts: Any) -> Callable[[], Fingerprint]:
    return lambda: made(baseline(), host=HOST | facts)


STACK, LOAD = baseline().stack, baseline().load
CASES = (
    Case(name="the same", changed=of()),
    Case(name="durability", changed=of(stack=replace(STACK, durability=Wait())), words=("another stack",)),
    Case(
        name="a directive",
        changed=of(stack=replace(STACK, redis=replace(STACK.redis, appendonly=False))),
        words=("another stack",),
    ),
    Case(name="time to live", changed=of(stack=replace(STACK, session_ttl_s=15)), words=("another stack",)),
    Case(name="a member less", changed=of(stack=replace(STACK, members=STACK.members[:-1])), words=("another stack",)),
    Case(name="a rate", changed=of(load=replace(LOAD, edit_rate_ops_per_s=6)), words=("another load",)),
    Case(name="one process, as without the field", changed=of(load=replace(LOAD, workers=1))),
    Case(name="two processes", changed=of(load=replace(LOAD, workers=2)), words=("another load",)),
    Case(name="an objective", changed=of(slos=SLOS[:1]), words=("other objectives or checks",)),
    Case(name="checks", changed=of(checks=("latency",)), words=("other objectives or checks",)),
    Case(name="content", changed=lambda: made(baseline(), harness="d5"), words=("another state of the harness",)),
    Case(name="image", changed=lambda: made(baseline(), servers="image e6"), words=("another stack image",)),
    Case(name="kernel", changed=on(kernel="6.12.1"), words=("another machine",)),
    Case(name="processors", changed=on(cpus=4), words=("another machine",)),
    Case(name="memory", changed=on(memory_bytes=1), words=("another machine",)),
    Case(name="boot", changed=on(boot_id="f2c2"), words=("another boot of the machine",)),
    Case(name="seed", changed=of(seed=7)),
    Case(name="texts", changed=of(title="Quiet", description="…", file="elsewhere.yaml")),
    Case(name="length", changed=of(timeline=replace(baseline().timeline, steady_s=80))),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_ingredient_changes_it_and_is_named(case: Case) -> None:
    before, after = made(baseline()), case.changed()
    assert (before == after) == (not case.words)
    assert differing(before, after) == differing(after, before) == case.words


def test_every_ingredient_has_words() -> None:
    one = made(baseline())
    for name in Fingerprint.__struct_fields__:
        assert len(differing(one, replace(one, **{name: "other"}))) == 1, name


def test_it_is_the_same_after_it_was_saved() -> None:
    one = made(baseline())
    assert msgspec.json.decode(msgspec.json.encode(one), type=Fingerprint) == one


def test_a_control_has_the_stack_the_load_and_the_seed_of_its_scenario() -> None:
    about = scenario(durability=Wait())
    control = control_of(about, baseline())
    assert (control.stack, control.load, control.seed) == (about.stack, about.load, about.seed)
    assert (control.name, control.experiment) == ("baseline", None)


def test_a_control_is_held_to_what_its_scenario_asks_of_the_steady_phase() -> None:
    both = replace(availability_slo("steady", 0.9), phases=("steady", "fault"))
    control = control_of(scenario(slos=(both, *SLOS[1:])), baseline())
    assert control.slos == (availability_slo("steady", 0.9), SLOS[1])
    assert control_of(scenario(slos=SLOS[2:]), baseline()).slos == baseline().slos


@pytest.mark.parametrize(("own_s", "other_s", "steady_s"), [(60.0, 20.0, 60.0), (20.0, 60.0, 60.0)])
def test_a_control_lasts_as_long_as_its_scenario_is_steady(own_s: float, other_s: float, steady_s: float) -> None:
    about = replace(scenario(), timeline=replace(scenario().timeline, steady_s=other_s))
    control = control_of(about, replace(baseline(), timeline=replace(baseline().timeline, steady_s=own_s)))
    assert (control.timeline.steady_s, control.timeline.fault_s) == (steady_s, 0)


def test_a_scenario_whose_control_could_not_be_judged_is_refused() -> None:
    about = replace(scenario(), timeline=replace(scenario().timeline, steady_s=5))
    with pytest.raises(SpecError, match="as the control of redis-failover"):
        control_of(about, replace(baseline(), timeline=replace(baseline().timeline, steady_s=5)))


def test_measured_objectives_count_too() -> None:
    more = replace(baseline(), slos=(*SLOS[:2], measured_slo("x", "recovery.outage_s", 1)))
    assert differing(made(more), made(baseline())) == ("other objectives or checks",)


@pytest.mark.parametrize("load", [Load(), Load(workers=1)], ids=["absent", "one"])
def test_a_load_of_one_process_is_written_as_it_was_before_there_could_be_more(load: Load) -> None:
    assert digest_without_absent(load) == "4c288378b05dd37a"
    assert load.processes == 1
