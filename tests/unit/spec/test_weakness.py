"""Where a known weakness may be, and who may suffer from a fault: what the scenario's stack has."""

import pytest
from msgspec.structs import replace

from resilience.errors import SpecError
from resilience.spec.blast import BlastRadius
from resilience.spec.coherence import check_scenario
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import TIERS, WITH_CONTENT, personalized, scenario


def weak_at(group: str, *tiers: str) -> Scenario:
    weakness = KnownWeakness(finding="durability", within={"value": (1, 2)}, seen="always", why="known", group=group)
    return replace(scenario(tiers=tiers), known_weaknesses=(weakness,))


@pytest.mark.parametrize("group", ["", "shard 3", "postgresql", "queue session-events", "queue session-events.dead"])
def test_a_place_of_the_stack(group: str) -> None:
    check_scenario(weak_at(group, *TIERS), "here")


@pytest.mark.parametrize(
    ("group", "tiers"),
    [
        ("shard 4", TIERS),
        ("queue nowhere", TIERS),
        ("postgresql", ("rabbitmq",)),
        ("queue session-events", ("postgresql",)),
    ],
)
def test_a_place_that_the_stack_has_not(group: str, tiers: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match=r"known_weaknesses\[0\].group: expected one of shard 1, shard 2, shard 3"):
        check_scenario(weak_at(group, *tiers), "here")


ROOMS_AND_JOBS = "queue content-processing, queue collaboration-sync"
QUEUES = f"queue session-events, {ROOMS_AND_JOBS}"


def reaching(*names: str, about: Scenario) -> Scenario:
    return replace(about, blast_radius=BlastRadius(may_suffer=names))


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("shard 3", scenario()),
        ("session", scenario()),
        ("collaboration", scenario()),
        ("queue session-events", scenario(tiers=TIERS)),
        ("queue collaboration-sync", scenario(tiers=WITH_CONTENT)),
        ("content", scenario(tiers=WITH_CONTENT)),
        ("personalization", personalized(scenario(tiers=TIERS))),
    ],
)
def test_who_may_suffer(name: str, about: Scenario) -> None:
    check_scenario(reaching(name, about=about), "here")


@pytest.mark.parametrize(
    ("name", "about", "others"),
    [
        ("shard 4", scenario(), "session, collaboration"),
        ("queue session-events", scenario(tiers=("postgresql",)), "session, collaboration"),
        ("postgresql", scenario(tiers=TIERS), f"{QUEUES}, session, collaboration"),
        ("queue session-events.dead", scenario(tiers=TIERS), f"{QUEUES}, session, collaboration"),
        ("personalization", scenario(tiers=TIERS), f"{QUEUES}, session, collaboration"),
        # whose queue it is: the service is named instead
        ("queue session-events", personalized(scenario(tiers=TIERS)),
         f"{ROOMS_AND_JOBS}, session, collaboration, personalization"),
        ("queue content-processing", scenario(tiers=WITH_CONTENT),
         "queue session-events, queue collaboration-sync, session, collaboration, content"),
    ],
)  # fmt: skip
def test_who_cannot_be_named(name: str, about: Scenario, others: str) -> None:
    expected = rf"may_suffer\[0\]: expected one of shard 1, shard 2, shard 3, {others} \(got '{name}'\)"
    with pytest.raises(SpecError, match=expected):
        check_scenario(reaching(name, about=about), "here")
