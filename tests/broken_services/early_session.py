"""A session service that answers before its write is acknowledged, so that nobody has to wait for Redis.

A create or an update is answered at once, with the version that it will have if nothing goes wrong, and written
afterwards; what becomes of the write nobody hears. While a shard has no primary the writes to it are answered as well
as ever, and lost. Heartbeats and ends are honest: their version is known to Redis alone.
"""

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from typing import Any
from unittest import mock

from services import session
from services.config import Config
from services.redis_cluster import RedisCluster
from services.web import Refusal, main


class EarlySessions(session.Sessions):
    """The routes of the session service, with the defect."""

    def __init__(self, cluster: RedisCluster, config: Config, events: session.Events | None = None) -> None:
        super().__init__(cluster, config, events)
        self._behind: set[asyncio.Task[None]] = set()  # keeps the writes on their way from being collected

    async def _write(
        self,
        session: str,
        action: str,
        op: str,
        deadline: float,
        *,
        expected: int = 0,
        data: str = "",
        person: str | None = None,
    ) -> int:
        if action in {"heartbeat", "end"}:
            return await super()._write(session, action, op, deadline)
        write = super()._write(session, action, op, deadline, expected=expected, data=data, person=person)
        task = asyncio.create_task(_unheard(write))
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        return expected + 1


async def _unheard(write: Coroutine[Any, Any, int]) -> None:
    with contextlib.suppress(Refusal):
        await write


if __name__ == "__main__":
    with mock.patch.object(session, "Sessions", EarlySessions):
        sys.exit(main(session.serve))
