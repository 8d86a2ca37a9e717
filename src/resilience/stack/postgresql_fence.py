"""Fencing a member of PostgreSQL: it takes no write any more before it has gone back to where another primary parted
from it (``stacks/postgresql/start.sh``).

::

    no answer ─┬─▶ it says that it takes writes ─▶ told to stop ─▶ seen to have stopped: *fenced*
               ├─▶ seen to have stopped before it was told anything: *gone*
               ├─▶ it says that it is a standby
               └─▶ none of them by the deadline: nobody knows, and that is an error

That a member has stopped is seen: its host refuses connections, its platform says that no server runs, or it has come
back as a standby. Silence is no proof: a slow primary is silent, and goes on.
"""

import time
from typing import Literal

import msgspec

from resilience.backend.base import Platform, Say, unheard
from resilience.errors import StackError
from resilience.stack.postgresql_link import PostgresqlLink, PostgresqlLinks
from resilience.stack.wait import wait_until

KNOWN_WITHIN_S = 10.0  # a look at a silent member takes two seconds
STOP_WITHIN_S = 5  # then at once; for what was written to get to standbys; where they are cut off it would be a minute
FENCED_WITHIN_S = 2 * STOP_WITHIN_S
# The server runs this in its data folder. What stops it has to be out of its reach, since it ends what it has started;
# and what the server says to it has to be read, or the server reports that it could not say it.
FENCE = f"""COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; touch fenced && setsid sh -c "
    pg_ctl -D . -m fast -t {STOP_WITHIN_S} stop || pg_ctl -D . -m immediate stop" </dev/null >/dev/null 2>&1 &'"""
RESTART = FENCE.replace("touch fenced && ", "")  # the platform starts it again

Standing = Literal["primary", "standby", "gone", "unknown"]


class Fencing(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a member that must not take writes any more."""

    member: str
    how: Literal["fenced", "gone", "standby"]
    seen: tuple[str, ...]  # what one look after the other showed, the same only once in a row


def standing(platform: Platform, link: PostgresqlLink) -> tuple[Standing, str]:
    """What a member is at this moment, and what shows it."""
    try:
        answer = link.ask("SELECT pg_is_in_recovery()")
    except StackError as error:
        if link.is_refused():
            return "gone", "its host refuses connections"
        if not platform.state(link.member).running:
            return "gone", "its platform says that no server runs"
        return "unknown", f"it neither answers nor refuses: {error}"
    return ("standby", "it is a standby") if answer == [("t",)] else ("primary", "it takes writes")


def fenced(platform: Platform, links: PostgresqlLinks, member: str, say: Say = unheard) -> Fencing:
    """Fences a member if it takes writes; it is looked at again and again until that is known.

    ``say`` hears before it is told to stop (event `stopping`), and when it is seen to have stopped (`fenced`). Raises
    `StackError` if it is not seen within the deadlines that it takes no writes any more.
    """
    one = _Looked(platform, links.link(member))
    wait_until(f"fencing {member}", one.unknown, deadline=time.monotonic() + KNOWN_WITHIN_S)
    if one.now == "primary":
        say("stopping", {"member": member, "why": "fenced", "within_s": FENCED_WITHIN_S})
        wait_until(f"fencing {member}", one.stops, deadline=time.monotonic() + FENCED_WITHIN_S)
        say("fenced", {"members": (member,), "seen": tuple(one.seen)})
        return Fencing(member=member, how="fenced", seen=tuple(one.seen))
    return Fencing(member=member, how="gone" if one.now == "gone" else "standby", seen=tuple(one.seen))


class _Looked:
    """A member that is looked at, and told to stop once it has said that it takes writes."""

    def __init__(self, platform: Platform, link: PostgresqlLink) -> None:
        self._platform = platform
        self._link = link
        self._told = False
        self.now: Standing = "unknown"
        self.seen: list[str] = []

    def unknown(self) -> str:
        """Looks; why nobody knows what it is, "" if that is known."""
        self._look()
        return self.seen[-1] if self.now == "unknown" else ""

    def stops(self) -> str:
        """Looks, and tells it to stop; why it may take writes still, "" if it is seen that it does not.

        It is told again where it goes on and did not confirm the order: that may not have come to it.
        """
        self._look()
        if self.now == "primary" and not self._told:
            self._told = self._tell()
        return self.seen[-1] if self.now in {"primary", "unknown"} else ""

    def _look(self) -> None:
        self.now, words = standing(self._platform, self._link)
        if self.seen[-1:] != [words]:
            self.seen.append(words)

    def _tell(self) -> bool:
        try:
            self._link.ask(FENCE)
        except StackError:  # it may have stopped before it has answered; that is seen
            return False
        return True
