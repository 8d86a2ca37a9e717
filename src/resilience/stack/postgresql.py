"""The PostgreSQL tier of a stack: waits until it is ready, and says who is what in it, by the servers' own answers.

Nothing has to be formed here: each member makes its data when it first starts (``stacks/postgresql/start.sh``).
"""

from types import TracebackType
from typing import Self

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError
from resilience.stack.patroni import unnamed, without_majority
from resilience.stack.postgresql_link import APPLICATION, PASSWORD, PostgresqlLink, PostgresqlLinks, Rows
from resilience.stack.postgresql_role import (
    QUESTION,
    Look,
    Looks,
    PostgresqlRole,
    behind,
    decide,
    look_from_text,
    primary_of,
    unready,
)
from resilience.stack.redis_cluster import shortened
from resilience.stack.wait import Pause, wait_until

POLL_S = 0.1
ASK_TIMEOUT_S = 1.0
ROLES_TIMEOUT_S = 0.5  # a member that is silent for this long counts as unreachable
STEADY_TIMEOUT_S = 3.0  # whether all stream is asked then, not how quickly they say so


def wait_ready(platform: Platform, deadline: float, pause: Pause | None = None) -> float:
    """Waits until one member takes writes, all others stream from it, every PgBouncer leads to it, and etcd is whole.

    Returns the seconds it took. Raises `StackError` that says what is missing.
    """
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:

        def unmet() -> str:
            return shortened(unready(platform.stack, looks(links)) or _amiss_beside(platform))

        return wait_until("PostgreSQL's readiness", unmet, deadline=deadline, every_s=POLL_S, pause=pause)


def looks(links: PostgresqlLinks) -> Looks:
    """What each member says of itself now."""
    return {name: _look(answer) for name, answer in links.ask_each(QUESTION).items()}


def _look(answer: Rows | StackError) -> Look | StackError:
    if isinstance(answer, StackError):
        return answer
    try:
        return look_from_text(answer[0][0] if answer else None)
    except StackError as error:
        return error


class Gathering:
    """Looks again and again whether the tier has come together: ready, and all caught up with what was written by the
    first look. A stack without the tier is always together.
    """

    def __init__(self, platform: Platform) -> None:
        """Asks nobody yet."""
        self._platform = platform
        self._links = PostgresqlLinks(platform, ASK_TIMEOUT_S) if platform.stack.postgresql is not None else None
        self._written: int | None = None

    def amiss(self) -> list[str]:
        """What keeps it from being together now."""
        if self._links is None:
            return []
        seen = looks(self._links)
        primary = seen.get(primary_of(seen))
        if self._written is None and isinstance(primary, Look):
            self._written = primary.written
        stack = self._platform.stack
        return unready(stack, seen) or behind(seen, self._written or 0) or _amiss_beside(self._platform)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._links is not None:
            self._links.close()


def live_roles(platform: Platform) -> tuple[PostgresqlRole, ...]:
    """Asks the members themselves, now; one that does not answer is unreachable. None where there is no such tier."""
    if platform.stack.postgresql is None:
        return ()
    with PostgresqlLinks(platform, ROLES_TIMEOUT_S) as links:
        return decide(platform.stack, links.hosts, looks(links))


def unreplicated(platform: Platform) -> list[str]:
    """What keeps the tier from having one primary from which all others stream, now."""
    with PostgresqlLinks(platform, STEADY_TIMEOUT_S) as links:
        return unready(platform.stack, looks(links))


def _amiss_beside(platform: Platform) -> list[str]:
    """Why the servers' being well is not all: of what leads to them, and of what elects them."""
    return unled(platform) or without_majority(platform) or unnamed(platform)


def unled(platform: Platform) -> list[str]:
    """Why a PgBouncer leads nobody to a member that takes writes; empty if all do."""
    password = platform.secret(PASSWORD)
    states = [state for state in platform.states() if state.component == "pgbouncer"]
    return [reason for state in states if (reason := _unled(state, password))]


def _unled(state: MemberState, password: str) -> str:
    link = PostgresqlLink(
        state.name, state.address, password, ASK_TIMEOUT_S, component=state.component, user=APPLICATION
    )
    try:
        answer = link.ask("SELECT pg_is_in_recovery()")
    except StackError as error:
        return str(error)
    finally:
        link.close()
    return "" if answer == [("f",)] else f"{state.name} leads to a member that takes no writes"
