"""The services whose ops are on no shard of Redis: what people do with one of them is judged as a whole."""

from collections.abc import Callable
from typing import NamedTuple

from resilience.history.content import OF_ARTICLES
from resilience.history.people import OF_PEOPLE
from resilience.spec.blast import CONTENT, PERSONALIZATION
from resilience.spec.load import Load
from resilience.spec.stack import Stack


class Service(NamedTuple):
    """A service of a stack, and the ops that the load sends to it."""

    name: str  # as it is named in a stack, and in `blast_radius.may_suffer`
    ops: str  # in words
    op: str  # one of them
    kinds: tuple[str, ...]  # each of which the load sends
    asked: Callable[[Load], tuple[float, float | None]]  # ops/s, and the least that is asked for, None: the usual share


SERVICES = (
    Service(
        name=CONTENT,
        ops="ops on articles",
        op="op on an article",
        kinds=OF_ARTICLES,
        asked=lambda load: (load.content_ops_per_s, load.content_rate_ops_per_s_min),
    ),
    Service(
        name=PERSONALIZATION,
        ops="suggestions and interests",
        op="suggestion or interest",
        kinds=OF_PEOPLE,
        asked=lambda load: (load.personalization_ops_per_s, None),
    ),
)


def services_of(stack: Stack) -> tuple[Service, ...]:
    """Those of a stack."""
    return tuple(service for service in SERVICES if getattr(stack, service.name) is not None)
