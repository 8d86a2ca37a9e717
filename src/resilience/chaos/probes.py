"""The probes that experiments call; each answers true or false, and says in the log why it is false."""

import logging
from collections.abc import Sequence

from resilience.chaos import play
from resilience.chaos.failing import activity
from resilience.chaos.pace import too_slow
from resilience.chaos.session import open_session
from resilience.chaos.steady import members_down, shards_without_replica

__all__ = ["healed", "in_effect", "load_at_rate", "members_running", "shards_replicated"]

_LOGGER = logging.getLogger("chaostoolkit")


def in_effect(when: str) -> bool:
    """Whether the fault is in effect, seen from a third point of view; ``when``: ``injected`` or ``before-heal``."""
    with activity():
        return play.in_effect(open_session(), when)


def healed() -> bool:
    """Whether every injection has ended and the opposite of its effect was seen."""
    with activity():
        return play.healed(open_session())


def members_running() -> bool:
    """Whether every member that has a server runs it."""
    with activity():
        return _none("members that do not run", members_down(open_session().platform))


def shards_replicated() -> bool:
    """Whether every shard has its primary and as many replicas as the stack file gives it."""
    with activity():
        session = open_session()
        return _none("shards", shards_without_replica(session.platform.stack, session.injector.roles()))


def load_at_rate() -> bool:
    """Whether each part of the load has sent at nearly its least rate over the last few seconds."""
    with activity():
        session = open_session()
        return _none("load", too_slow(session.scenario, session.run_dir / "load", session.clock.now_us()))


def _none(what: str, reasons: Sequence[str]) -> bool:
    if reasons:
        _LOGGER.warning("%s: %s", what, "; ".join(reasons))
    return not reasons
