"""The tiers that a stack may have beside what every stack has, as a cluster has them: the one list to add one to.

A service that not every stack has is one, too; what it is told is among `manifests.settings`.

::

    stacks/kubernetes/tiers/<name>   manifests of the tier, applied beside the overlay where a stack has it
    `Tier`                           what is rendered from a stack file for it, its images, its load's client

What of a tier stands in which namespace, and who reaches it, is in `manifests` and `reach`, by component.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from resilience.backend.kubernetes import postgresql_tier
from resilience.backend.kubernetes.manifests import Object, Secret, settings
from resilience.backend.kubernetes.rabbitmq import rabbitmq_settings
from resilience.backend.local.place import PROJECT_ROOT
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack

FOLDER = PROJECT_ROOT / "stacks" / "kubernetes" / "tiers"


def _no_settings(_stack: Stack, _secret: Secret) -> Iterator[Object]:
    return iter(())


class Tier(NamedTuple):
    """One tier; ``settings`` are its ConfigMaps and Secrets."""

    is_in: Callable[[Stack], bool]
    settings: Callable[[Stack, Secret], Iterator[Object]] = _no_settings
    client: str = ""  # the component of the load's client that drives it; "": the load does, through the edge
    images: tuple[str, ...] = ()  # by official name, those that no other has: `images.DEBIAN`


TIERS: Mapping[str, Tier] = {
    "postgresql": Tier(
        is_in=postgresql_tier.is_in,
        settings=postgresql_tier.settings,
        client="postgresql-client",
        images=("postgres", "edoburu/pgbouncer", "prometheuscommunity/postgres-exporter"),
    ),
    "rabbitmq": Tier(
        is_in=lambda stack: stack.rabbitmq is not None,
        settings=rabbitmq_settings,
        client="rabbitmq-client",
        images=("rabbitmq",),
    ),
    "content": Tier(is_in=lambda stack: stack.content is not None),
    "personalization": Tier(is_in=lambda stack: stack.personalization is not None),
}


class Extent(NamedTuple):
    """How much a cluster has to carry: processes of Locust (`load.workers`), and tiers by their names."""

    workers: int = 1
    tiers: tuple[str, ...] = ()

    @classmethod
    def of(cls, scenarios: Iterable[Scenario]) -> Self:
        """What each of these needs can be had with it."""
        every = tuple(scenarios)
        tiers = {name for scenario in every for name in tiers_of(scenario.stack)}
        return cls(max(scenario.load.processes for scenario in every), tuple(sorted(tiers)))


NOTHING_MORE = Extent()


def clients_of(tiers: Iterable[str]) -> list[str]:
    """The clients of the load that drive these tiers."""
    return [TIERS[name].client for name in tiers if TIERS[name].client]


def tiers_of(stack: Stack) -> tuple[str, ...]:
    """The tiers that a stack has."""
    return tuple(name for name, tier in TIERS.items() if tier.is_in(stack))


def manifests_of(name: str) -> Path:
    """The folder of a tier's manifests."""
    return FOLDER / name


def all_settings(stack: Stack, secret: Secret) -> Iterator[Object]:
    """The ConfigMaps and Secrets of a stack with its tiers."""
    yield from settings(stack, secret)
    for name in tiers_of(stack):
        yield from TIERS[name].settings(stack, secret)
