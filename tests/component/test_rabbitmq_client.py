"""The RabbitMQ client against three real members, one of which is killed: what was confirmed is seen again."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.history.clock import RunClock
from resilience.history.queues import amiss
from resilience.history.record import AuditDone, Event, Invoked, QueueRead, Returned
from resilience.spec.rabbitmq import QUEUES
from resilience.stack.rabbitmq import queues_seen, survey
from resilience.stack.rabbitmq_watch import QueueWatch
from tests.component.local_stack import brought_up
from tests.component.rabbitmq_load import BACKLOG, client_on, drained, left_in
from tests.component.rabbitmq_members import NAMES, STACK, leader_of, publish, ready

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def up(image: Path, folder: Path) -> Iterator[OwnedLocalPlatform]:
    with brought_up(STACK, image, folder) as owned:
        ready(owned)
        yield owned


@contextmanager
def watched(up: OwnedLocalPlatform, events: list[Event]) -> Iterator[None]:
    watch = QueueWatch(up, RunClock.starting_now(), events.append).start()
    try:
        yield
    finally:
        watch.stop()


def test_a_killed_leader_loses_nothing_that_was_confirmed(up: OwnedLocalPlatform, tmp_path: Path) -> None:
    events: list[Event] = []
    with client_on(up, tmp_path) as client, watched(up, events):
        client.publish_more(60)
        victim = leader_of(up, QUEUES[0])
        os.kill(up.state(victim).handle["server_pid"], signal.SIGKILL)
        time.sleep(8)
        ready(up)
        led = [event.data["leader"] for event in events if event.data["queue"] == QUEUES[0]]
        assert led[0] == victim
        assert set(led) & (set(NAMES) - {victim}), "another was seen to lead"
        client.publish_more(60)
        client.stop()

        summary = json.loads((client.folder / "rabbitmq.summary.json").read_text())
        assert (summary["exit"], summary["unfinished"], summary["dropped"]) == (0, 0, 0)
        lines = client.lines()
        invoked = {line.id: line for line in lines if isinstance(line, Invoked)}
        ends = {line.id: line for line in lines if isinstance(line, Returned)}
        assert set(ends) == set(invoked)
        assert {line.kind for line in invoked.values()} == {"rabbitmq.publish"}
        assert {line.key for line in invoked.values()} == set(QUEUES)
        assert len({line.value for line in invoked.values()}) == len(invoked)
        confirmed = {invoked[line.id].value for line in ends.values() if line.outcome == "ok"}
        assert len(confirmed) < len(invoked), "some were to be published through a member that was dead"

        audit = drained(up, client.folder, client.clock)
        assert amiss(queues_seen(up, survey(up))) == []
        there = client.taken() | left_in(audit)
        assert confirmed <= there
        dropped = {line.value for line in client.consumed() if not line.acked}
        assert dropped, "what the consumer of the killed member held"
        assert dropped <= there, "it was handed out again"
        fresh = [line.value for line in client.consumed() if not line.redelivered]
        assert len(fresh) == len(set(fresh)), "with the server's flag"
        behind = Counter(invoked[line.id].key for line in ends.values() if line.outcome == "ok")
        behind.subtract(line.queue for line in client.consumed() if line.acked)
        assert all(number >= BACKLOG for number in behind.values()), behind
        done = audit[-1]
        assert isinstance(done, AuditDone)
        assert done.kind == "rabbitmq"
        client.process.send_signal(signal.SIGINT)
        assert client.process.wait(10) == 0


def test_what_is_acknowledged_automatically_is_lost_with_its_consumer(up: OwnedLocalPlatform, tmp_path: Path) -> None:
    """The same kill; the consumer of the first queue is connected to the queue's first leader, and dies with it."""
    ready(up)
    with client_on(up, tmp_path, automatic_ack=True) as client:
        client.publish_more(90)
        os.kill(up.state("rabbitmq-0").handle["server_pid"], signal.SIGKILL)
        time.sleep(4)
        ready(up)
        client.stop()
        there = client.taken() | left_in(drained(up, client.folder, client.clock))
        lost = {queue: len(client.confirmed(queue) - there) for queue in QUEUES}
        assert BACKLOG - 2 <= lost.pop(QUEUES[0]) <= BACKLOG + 5
        assert not any(lost.values()), "the other consumers lived"
        first = {queue: next(line.member for line in client.attached() if line.queue == queue) for queue in QUEUES}
        assert first == dict(zip(QUEUES, NAMES, strict=True))
        assert client.attached()[-1].queue == QUEUES[0], "and went elsewhere"
        assert client.attached()[-1].member != NAMES[0]
        assert [line.why for line in client.detached()] == ["lost", "stop", "stop", "stop"]
        assert all(0 <= line.came <= line.at for line in client.consumed())


def test_a_poison_message_is_a_dead_letter_in_the_end(up: OwnedLocalPlatform, tmp_path: Path) -> None:
    ready(up)
    drained(up, tmp_path, RunClock.starting_now())
    with client_on(up, tmp_path, poison_every=5) as client:
        client.publish_more(90)
        client.stop()
        audit = drained(up, client.folder, client.clock)
        rejected = Counter(line.value for line in client.consumed() if not line.acked)
        dead = left_in(audit, *(f"{queue}.dead" for queue in QUEUES))
        assert dead
        assert {rejected[value] for value in dead} == {3}, "delivered once, and twice more"
        assert not dead & client.taken()
        assert set().union(*map(client.confirmed, QUEUES)) <= client.taken() | left_in(audit)


def test_a_drain_tells_what_was_left_and_of_what_it_died(up: OwnedLocalPlatform, tmp_path: Path) -> None:
    ready(up)
    drained(up, tmp_path, RunClock.starting_now())
    publish(up, "rabbitmq-0", QUEUES[1], "left")
    publish(up, "rabbitmq-0", QUEUES[2], "dead", expiration="1")
    time.sleep(1)
    audit = drained(up, tmp_path, RunClock.starting_now())
    found = {line.queue: line.messages for line in audit if isinstance(line, QueueRead)}
    assert set(found) == {*QUEUES, *(f"{queue}.dead" for queue in QUEUES)}, "an empty queue has a line, too"
    assert [(one.value, one.redelivered, one.died_of) for one in found[QUEUES[1]]] == [("left", False, "")]
    dead = found[f"{QUEUES[2]}.dead"]
    assert [(one.value, one.died_in, one.died_of) for one in dead] == [("dead", QUEUES[2], "expired")]
    assert isinstance(audit[-1], AuditDone)
    assert audit[-1].count == 2
    assert {line.member for line in audit if isinstance(line, QueueRead)} == {"rabbitmq-1"}, "the other was hit"
