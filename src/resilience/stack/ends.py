"""Servers that end while somebody waits for them: a server that ends again and again is not worth waiting for."""

from collections.abc import Iterator

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError

ENDS_MAX = 3  # of one server
SHOWN = 200  # characters of a log's line
MEMBERS_SHOWN = 3  # what ended them all has one cause, and the message is one line


class Ends:
    """How often each member's server has ended since this was made, and what it had to say."""

    def __init__(self, platform: Platform) -> None:
        """Looks at all members once."""
        self._platform = platform
        self._before = {state.name: _ends(state) for state in platform.states()}

    def too_many(self) -> str:
        """Why waiting is in vain; "" while it is not."""
        return "waiting was given up" if any(ends >= ENDS_MAX for _, ends in self._ended()) else ""

    def told(self) -> tuple[str, ...]:
        """What there is to tell: the members whose servers ended most often, and how many more there are."""
        ended = sorted(self._ended(), key=lambda pair: -pair[1])
        told = tuple(_told(state, ends) for state, ends in ended[:MEMBERS_SHOWN])
        return (*told, f"{more} more servers ended") if (more := len(ended) - len(told)) > 0 else told

    def _ended(self) -> Iterator[tuple[MemberState, int]]:
        try:
            states = self._platform.states()
        except StackError:  # a platform that cannot be seen just now is told of by whoever waits for its members
            return
        for state in states:
            ends = _ends(state) - self._before.get(state.name, 0)
            if ends > 0:
                yield state, ends


def _ends(state: MemberState) -> int:
    dead = not state.running and state.last_words is not None
    return state.restarts + int(dead)


def _told(state: MemberState, ends: int) -> str:
    often = "once" if ends == 1 else f"{ends} times"
    words = " ".join((state.last_words or "").split())[:SHOWN]
    return f"{state.name} ended {often}, {f'its log with: {words}' if words else 'without a word'}"
