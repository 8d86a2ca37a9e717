"""Waiting with a deadline: a condition that says why it is not met, asked again and again.

Deadlines are values of `time.monotonic` in seconds, so that one can be shared by everything that has to fit under it.
"""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, as_completed, wait
from threading import Event

from resilience.errors import StackError

IN_VAIN_EVERY_S = 0.5

Pause = Callable[[float], bool]  # waits that many seconds; True: somebody wants the waiting to end


def wait_until(
    what: str,
    unmet: Callable[[], str],
    *,
    deadline: float,
    every_s: float = 0.05,
    pause: Pause | None = None,
    now: Callable[[], float] = time.monotonic,
) -> float:
    """Asks ``unmet`` until it answers "", and returns the seconds that took; it is always asked once after a pause.

    Raises `StackError` with the last reason when the deadline has passed or ``pause`` breaks the waiting off.
    """
    pause = pause or Event().wait
    began = now()
    reason = unmet()
    while reason:
        left_s = deadline - now()
        if left_s <= 0:
            raise StackError(f"{what} took more than {now() - began:.1f} s: {reason}")
        if pause(min(every_s, left_s)):
            raise StackError(f"{what} was broken off after {now() - began:.1f} s: {reason}")
        reason = unmet()
    return now() - began


def wait_all(jobs: Mapping[str, Callable[[Pause], None]], in_vain: Callable[[], str] = str) -> None:
    """Runs jobs at the same time; the first that fails, or a Ctrl-C, breaks the others off.

    Each job is given the pause that it has to use between its looks. Raises one `StackError` that holds the reasons
    of all jobs that failed, the first to fail first; anything else that a job raises comes out as it is. A reason that
    ``in_vain`` gives, which is asked now and then, breaks all of them off and is raised instead of theirs.
    """
    broken_off = Event()
    with ThreadPoolExecutor(max_workers=len(jobs), thread_name_prefix="wait") as pool:
        futures = [pool.submit(job, broken_off.wait) for job in jobs.values()]
        try:
            first = _first_done(futures, in_vain)
        finally:
            broken_off.set()
    _raise_failures([*first, *(future for future in as_completed(futures) if future not in first)])


def _first_done(futures: Collection[Future[None]], in_vain: Callable[[], str]) -> Collection[Future[None]]:
    """Those that have ended when one has failed, or all have ended."""
    while True:
        done, waiting = wait(futures, timeout=IN_VAIN_EVERY_S, return_when=FIRST_EXCEPTION)
        if not waiting or any(future.exception() for future in done):
            return done
        if reason := in_vain():
            raise StackError(reason)


def _raise_failures(futures: list[Future[None]]) -> None:
    reasons = []
    for future in futures:
        error = future.exception()
        if error is not None and not isinstance(error, StackError):
            raise error
        if error is not None:
            reasons.append(str(error))
    if reasons:
        raise StackError("; ".join(reasons))
