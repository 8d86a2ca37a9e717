"""What an impatient person does where commits hang: cancels the backends that wait for synchronous replication.

Each of them tells its client that the commit succeeded, with a warning that no standby may have it; the row may be on
the primary alone. A backend that waits is known by its process and the start of its statement, so that one which waits
again is another one.
"""

import time

import msgspec

from resilience.backend.base import Evidence, Platform, Proof, Say, unheard
from resilience.errors import StackError
from resilience.stack.postgresql import looks
from resilience.stack.postgresql_link import PostgresqlLink, PostgresqlLinks
from resilience.stack.postgresql_role import primary_of

ASK_TIMEOUT_S = 1.0
EVERY_S = 0.2
GONE_WITHIN_S = 2.0
WAITING = "SELECT pid || ' ' || query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
CANCEL = "SELECT pid || ' ' || query_start, pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    member: str  # the primary
    backends: frozenset[str]  # each wait that was cancelled: its process and the start of its statement
    trouble: str = ""  # why it was given up before its time was over


def cancel_waiting(platform: Platform, for_s: float, say: Say = unheard) -> Cancelled:
    """Cancels whatever waits, for so long; ``say`` hears of each time that some were (event `cancelling`).

    Raises `StackError` if nobody takes writes; then nothing was cancelled.
    """
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:
        member = primary_of(looks(links))
        if not member:
            raise StackError("cancel_waiting: no PostgreSQL member takes writes")
        link, ends_at, backends = links.link(member), time.monotonic() + for_s, set[str]()
        try:
            while True:
                new = {str(backend) for backend, told in link.ask(CANCEL) if told == "t"} - backends
                if new:
                    say("cancelling", {"member": member, "backends": len(new)})
                backends |= new
                if time.monotonic() >= ends_at:
                    return Cancelled(member=member, backends=frozenset(backends))
                time.sleep(EVERY_S)
        except StackError as error:
            return Cancelled(member=member, backends=frozenset(backends), trouble=str(error))


def cancellation_proof(platform: Platform, cancelled: Cancelled) -> Proof:
    """Whether some waited, all that did were cancelled as long as was asked for, and none of these waits is left."""
    some, trouble = len(cancelled.backends), cancelled.trouble
    left = _left_at_last(platform, cancelled)
    return Proof(
        evidence=(
            Evidence(what="backends that waited for a standby", expected="some", observed=str(some), ok=some > 0),
            Evidence(what="of them still waiting", expected="0", observed=left, ok=left == "0"),
            *((Evidence(what="cancelling", expected="to the end", observed=trouble, ok=False),) if trouble else ()),
        )
    )


def _left_at_last(platform: Platform, cancelled: Cancelled) -> str:
    """How many of the waits are left, or why nobody knows."""
    ends_at = time.monotonic() + GONE_WITHIN_S
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:
        link = links.link(cancelled.member)
        try:
            while (left := _left(link, cancelled)) and time.monotonic() < ends_at:
                time.sleep(EVERY_S)
        except StackError as error:
            return f"not known: {error}"
    return str(left)


def _left(link: PostgresqlLink, cancelled: Cancelled) -> int:
    return len(cancelled.backends & {str(backend) for (backend,) in link.ask(WAITING)})
