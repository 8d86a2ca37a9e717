"""What an SLO file leaves out, and how durations are written."""

from pathlib import Path

import pytest

from resilience.spec.read import read_slos
from resilience.spec.slo import RatioSource

SLOS = "scenarios/slo/all.yaml"


def edit(project: Path, *changes: tuple[str, str]) -> None:
    path = project / SLOS
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.parametrize(("target", "events_min"), [("0.5", 200), ("0.99", 200), ("0.999", 2_000), ("0.9999", 20_000)])
def test_least_events_follow_from_the_target(project: Path, target: str, events_min: int) -> None:
    edit(project, (', resilience/events-min: "300"', ""), ("target: 0.99}", f"target: {target}}}"))
    assert read_slos(project, SLOS)[0].events_min == events_min


@pytest.mark.parametrize(
    ("threshold", "bound", "seconds"),
    [
        ("250ms", "0.25", 0.25),
        ("0.25s", "0.25", 0.25),
        ("1s", "1.0", 1.0),
        ("500us", "0.0005", 0.0005),
        ("1m", "60.0", 60.0),
    ],
)
def test_threshold_with_its_unit(project: Path, threshold: str, bound: str, seconds: float) -> None:
    edit(project, ("threshold: 250ms", f"threshold: {threshold}"), ('le="0.25"', f'le="{bound}"'))
    source = read_slos(project, SLOS)[0].source
    assert isinstance(source, RatioSource)
    assert source.latency_threshold_s == seconds


def test_ratio_without_a_threshold_is_about_no_latency(project: Path) -> None:
    edit(
        project,
        (", resilience/threshold: 250ms", ""),
        ('load_seconds_bucket{op=~"session.*",le="0.25"}', 'ops_total{outcome="ok"}'),
        ('load_seconds_count{op=~"session.*"}', "ops_total"),
    )
    assert read_slos(project, SLOS)[0].source == RatioSource(good='ops_total{outcome="ok"}', total="ops_total")


def test_annotations_of_others_are_left_alone(project: Path) -> None:
    edit(project, ("resilience/phases: steady", "example.com/team: core, resilience/phases: steady"))
    assert read_slos(project, SLOS)[0].phases == ("steady", "fault")


def test_phases_come_in_the_order_of_a_run(project: Path) -> None:
    edit(project, ("steady+fault", "recovery+fault+steady"))
    assert read_slos(project, SLOS)[0].phases == ("steady", "fault", "recovery")
