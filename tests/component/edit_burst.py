"""Edits at the same time, as the collaboration service stores them: `edit_burst PASSWORD_FILE PGBOUNCER…`.

Each is of a room of its own, so that none waits for another's lock. Ends with 1, and says why, if one was not stored.
"""

import asyncio
import sys
from collections import Counter

from services.config import Durability, Rooms
from services.metric import StoreMetrics, new_registry
from services.redis_cluster import RedisCluster
from services.redis_node import REASONS, Login
from services.room_log import NOTHING
from services.room_rows import RowLog

EDITS = 200
WITHIN_S = 40.0  # the machine may be slow, and what is shown is no matter of time


async def main(password_file: str, *pgbouncers: str) -> int:
    """Stores all of them at once."""
    # who is in a room is not asked for
    cluster = RedisCluster(
        [],
        login=Login(name="nobody", password=None),
        durability=Durability(),
        metrics=StoreMetrics(new_registry(), REASONS),
    )
    log = RowLog(Rooms(postgresql=pgbouncers, postgresql_password_file=password_file), cluster)
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    edits = [log.append(f"room-{number}", f"edit-{number}", seen=NOTHING, deadline=deadline) for number in range(EDITS)]
    ends = await asyncio.gather(*edits, return_exceptions=True)
    await log.close()
    lost = Counter(repr(end) for end in ends if isinstance(end, BaseException))
    if lost:
        sys.stderr.write(f"{lost}\n")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
