"""Values of writes that a client may have sent after the last line of its record.

A client puts each write on record before it sends it, and a file gets these lines up to 50 ms later. One that is killed
takes the last of them with it: nobody can say what became of them, so they count as unknown.
"""

import re
from collections.abc import Callable

import numpy as np

from resilience.history.columns import Flags
from resilience.history.read import History

# who (of several processes of a client each has a number of its own), and which of its writes: they are counted
_NUMBERED = re.compile(r"([a-z]+[0-9]*)-(?:.*-)?([0-9]{1,18})", re.ASCII)


def unrecorded(history: History, writes: Flags) -> Callable[[str], bool]:
    """Whether a stored value belongs to a write like these that its client, now dead, sent and had not on record yet.

    A client that told its totals at its end has all its writes on record.
    """
    ops = history.ops
    dead = [client for client in ops.clients if client not in history.summaries]
    last: dict[str, int] = {}
    for client in dead:
        for value in ops.value[np.flatnonzero(writes & ops.of_client(client))[-1:]].tolist():
            if found := _NUMBERED.fullmatch(value):
                last[found[1]] = int(found[2])
    return lambda value: bool((found := _NUMBERED.fullmatch(value)) and int(found[2]) > last.get(found[1], _NEVER))


_NEVER = np.iinfo(np.int64).max
