"""A content service whose worker forgets jobs, and whose cache keeps what it should not.

One job in `EVERY` is acknowledged without its effect. Copies of articles are valid ten times as long as the service
says, and a change drops none of them. Everybody is answered, and quickly.
"""

import itertools
import sys
from unittest import mock

from services import content
from services.web import main

EVERY = 20
LONGER = 10


class KeepingCache(content.Cache):
    """The cache, with the defect."""

    async def fill(self, article: str, row: content.Row, asked_at: float, deadline: float) -> None:
        """As it should be, for longer."""
        await super().fill(article, row, asked_at + (LONGER - 1) * self._ttl_s, deadline)

    async def drop(self, article: str, deadline: float) -> None:
        """Nothing."""


class ForgetfulRenditions(content.Renditions):
    """What the worker does, with the defect."""

    _jobs = itertools.count(1)

    async def make(self, job: str, redelivered: bool) -> None:
        """As it should be, or nothing."""
        if next(self._jobs) % EVERY:
            await super().make(job, redelivered)


if __name__ == "__main__":
    with (
        mock.patch.object(content, "Cache", KeepingCache),
        mock.patch.object(content, "Renditions", ForgetfulRenditions),
    ):
        sys.exit(main(content.serve))
