"""The control of a scenario: the same stack under the same load, and nothing breaks."""

from collections.abc import Iterator

from msgspec.structs import replace

from resilience.spec.coherence import check_scenario
from resilience.spec.scenario import Scenario, Timeline
from resilience.spec.slo import Slo

CONTROL = "baseline"  # the scenario whose runs are controls
AGE_S_MAX = 86_400.0  # from the control's start to that of the run that it stands beside


def control_of(scenario: Scenario, baseline: Scenario) -> Scenario:
    """What has to be run as the scenario's control: ``baseline`` with its stack, load and seed.

    It is held to what the scenario holds the platform to while nothing is broken (to the baseline's own objectives if
    that is nothing), for as long at least. Raises `SpecError` if it could not be judged.
    """
    control = replace(
        baseline,
        stack=scenario.stack,
        load=scenario.load,
        seed=scenario.seed,
        slos=tuple(_of_steady(scenario.slos)) or baseline.slos,
        timeline=_as_long(baseline.timeline, scenario.timeline),
    )
    check_scenario(control, f"{baseline.file} as the control of {scenario.name}")
    return control


def _of_steady(slos: tuple[Slo, ...]) -> Iterator[Slo]:
    for slo in slos:
        if "steady" in slo.phases:
            yield replace(slo, phases=("steady",))


def _as_long(own: Timeline, other: Timeline) -> Timeline:
    return replace(own, warmup_s=max(own.warmup_s, other.warmup_s), steady_s=max(own.steady_s, other.steady_s))
