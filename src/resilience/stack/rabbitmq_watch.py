"""Watches who leads each queue of RabbitMQ, and who takes part in it, while a run goes on; each member by a thread.

What most of those who answer say counts (`rabbitmq_view.state_of_queue`): a member that was cut off takes itself for
the leader for a while. While a peer is silent, no member's API may answer before it has given the peer up: then nobody
says who leads, and that is on record too, since nothing else is known.
"""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Self

import msgspec

from resilience.backend.base import MemberState, Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import Event
from resilience.stack.rabbitmq import PASSWORD, queues_of
from resilience.stack.rabbitmq_view import QueueView, state_of_queue
from resilience.stack.watching import Threads

EVERY_S = 0.3  # an answer takes a member 2 ms
TIMEOUT_S = 1.0  # a member that takes longer counts as silent

Emit = Callable[[Event], None]


class QueueWatch:
    """Emits a ``queue-role`` event (`history.event`) for each queue as it is first seen, and whenever that changes.

    ``emit`` is called by one thread at a time. A stack without RabbitMQ has no queue to be watched.
    """

    def __init__(self, platform: Platform, clock: RunClock, emit: Emit) -> None:
        """Nothing is asked before `start`."""
        self._platform = platform
        self._clock = clock
        self._emit = emit
        self._lock = Lock()
        self._said: dict[str, tuple[QueueView, ...]] = {}  # by member: its last answer, as long as it answers
        self._told: dict[str, QueueView] = {}  # by queue
        self._threads = Threads(
            "watching the queues of RabbitMQ",
            {state.name: partial(self._run, state) for state in platform.states() if state.component == "rabbitmq"},
        )

    def start(self) -> Self:
        """Starts watching; once for each watch."""
        self._threads.start()
        return self

    def stop(self) -> None:
        """Stops watching. Raises `ExceptionGroup` with whatever went wrong in the background."""
        self._threads.stop()

    def heard(self, member: str, queues: tuple[QueueView, ...] | StackError) -> None:
        """Takes a member's answer, and tells what it changes."""
        with self._lock:
            if isinstance(queues, StackError):
                self._said.pop(member, None)
            else:
                self._said[member] = queues
            answers = tuple(self._said.values())
            names = dict.fromkeys([*self._told, *(queue.queue for queue in self._said.get(member, ()))])
            for name in names:
                self._tell(state_of_queue(name, answers))

    def _run(self, state: MemberState) -> None:
        password = self._platform.secret(PASSWORD)
        for _ in self._threads.rounds(EVERY_S):
            self.heard(state.name, _asked(state, password))

    def _tell(self, state: QueueView) -> None:
        if self._told.get(state.queue) == state:
            return
        self._told[state.queue] = state
        self._emit(Event("queue-role", self._clock.now_us(), msgspec.to_builtins(state)))


def _asked(state: MemberState, password: str) -> tuple[QueueView, ...] | StackError:
    try:
        return queues_of(state, password, TIMEOUT_S)
    except StackError as error:  # that it does not answer is the news
        return error
