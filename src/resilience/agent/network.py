"""Enters a member's network namespace. Only threads made for it do that: a namespace belongs to a thread."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from resilience.agent.error import AgentError
from resilience.agent.process import Place, is_running


def enter(place: Place) -> None:
    """Moves the calling thread into the member's network. Raises `AgentError` if the member is gone."""
    try:
        handle = os.open(f"/proc/{place.init_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AgentError(f"{place.name}: its network is gone: {error.strerror}") from error
    try:
        # looked up after the handle was had, so that the handle cannot be that of a reused pid
        if not is_running(place.init_pid, place.init_start):
            raise AgentError(f"{place.name}: its first process {place.init_pid} is gone")
        os.setns(handle, os.CLONE_NEWNET)
    finally:
        os.close(handle)


def within[T](place: Place, work: Callable[[], T]) -> T:
    """Calls ``work`` in the member's network and hands its result, or its exception, back."""
    if place.here:
        return work()

    def entered() -> T:
        enter(place)
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(entered).result()
