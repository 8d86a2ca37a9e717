"""The library of live articles, and who does what when an op is due: authors write, readers read.

An article's author creates it and then replaces it so many times, one op after the other; readers read any article
that its author knows to be there, as often as chance has it and also while it is being written. So there are always
reads beside writes of the same article, which is what a cache can get wrong.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from resilience.history.record import Outcome

Step = Literal["create", "update", "read", "list"]
WRITE_SHARE = 0.3  # of all ops
LIST_SHARE = 0.1
UPDATES = 8  # of one article, which is old then
_GONE = 404


@dataclass(slots=True, eq=False)
class Article:
    """One article as its author knows it. ``doubtful``: a write's outcome is unknown, so it is read before the next."""

    id: str
    version: int = 0  # 0: not known to be there
    updates: int = UPDATES  # still to come
    doubtful: bool = False

    def next_step(self) -> Step:
        """What its author does next."""
        return "read" if self.doubtful else "update" if self.version else "create"


class Turn(NamedTuple):
    """An op that is due: whose it is. ``article`` None: the catalogue is looked at."""

    step: Step
    article: Article | None = None
    by_author: bool = False


class Library:
    """All live articles of this generator."""

    def __init__(self, size: int, seed: int | str) -> None:
        """``size``: how many are live in quiet times. Their ids come from the seed."""
        self._random = random.Random(f"library-{seed}")  # noqa: S311  not for secrets
        self._size = max(1, size)
        self._live = 0
        self._idle: list[Article] = []  # whose author is not waiting for an answer
        self._there: dict[str, Article] = {}  # what readers find

    @property
    def live(self) -> int:
        """How many articles are live."""
        return self._live

    def pick(self) -> Turn:
        """Whose turn it is; an author is busy until `settle`."""
        chance = self._random.random()
        if chance < WRITE_SHARE or not self._there:
            article = self._of_an_author()
            return Turn(article.next_step(), article, by_author=True)
        if chance < WRITE_SHARE + LIST_SHARE:
            return Turn("list")
        return Turn("read", self._random.choice(tuple(self._there.values())))

    def settle(self, turn: Turn, outcome: Outcome, status: int, body: Mapping[str, Any]) -> None:
        """What became of an op that was picked."""
        article = turn.article
        if article is None or not turn.by_author:
            return
        self._learn(article, turn.step, outcome, body, status)
        if article.updates and status != _GONE and not (outcome == "fail" and turn.step == "create"):
            self._idle.append(article)
        else:
            self._live -= 1
            self._there.pop(article.id, None)

    def _of_an_author(self) -> Article:
        if self._live < self._size or not self._idle:
            self._live += 1
            return Article(f"a-{self._random.getrandbits(64):016x}")
        index = self._random.randrange(len(self._idle))
        self._idle[index], self._idle[-1] = self._idle[-1], self._idle[index]
        return self._idle.pop()

    def _learn(self, article: Article, step: Step, outcome: Outcome, body: Mapping[str, Any], status: int) -> None:
        version = body.get("version")
        if isinstance(version, int) and (outcome == "ok" or status == 409):
            article.version = max(article.version, version)  # a read may be of a cached copy
            self._there[article.id] = article
        article.doubtful = outcome == "unknown" or (article.doubtful and outcome != "ok")
        if step == "update" and outcome == "ok":
            article.updates -= 1
