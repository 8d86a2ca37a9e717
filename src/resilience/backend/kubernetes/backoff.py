"""How long the kubelet waits before it starts a container again that has ended.

The first restart comes at once. Each further one within ten minutes waits twice as long as the one before, 10 s to
300 s from the container's end, until it has run for ten minutes (kubelet: ``MaxContainerBackOff`` and its double).
"""

from datetime import datetime, timedelta

FIRST_S, LONGEST_S = 10.0, 300.0
FORGOTTEN_AFTER_S = 600.0


def next_wait_s(restarts: int, started: datetime, now: datetime) -> float:
    """At most how long the next restart would be held back of a container that has been started again so often, and
    for the last time at ``started``: the kubelet may have forgotten some of the restarts.
    """
    if not restarts or now >= forgotten_at(started):
        return 0.0
    return min(FIRST_S * 2.0 ** (restarts - 1), LONGEST_S)


def forgotten_at(started: datetime) -> datetime:
    """From when on the next restart comes at once again."""
    return started + timedelta(seconds=FORGOTTEN_AFTER_S)
