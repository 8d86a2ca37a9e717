"""Where a known weakness may be: at what the scenario's stack has."""

import pytest
from msgspec.structs import replace

from resilience.errors import SpecError
from resilience.spec.blast import BlastRadius
from resilience.spec.coherence import check_scenario
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import TIERS, scenario


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


def test_a_blast_radius_is_one_of_shards() -> None:
    radius = BlastRadius(may_suffer=("postgresql",), others_outage_s_max=2.5)
    with pytest.raises(SpecError, match=r"expected one of shard 1, shard 2, shard 3 \(got 'postgresql'\)"):
        check_scenario(replace(scenario(tiers=TIERS), blast_radius=radius), "here")
