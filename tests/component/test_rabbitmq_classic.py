"""Classic queues on three real RabbitMQ members: one copy each, and the priorities that they were declared with."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.spec.rabbitmq import QUEUES, Rabbitmq
from resilience.stack.rabbitmq import queue_roles
from tests.component.local_stack import brought_up
from tests.component.rabbitmq_load import BACKLOG, client_on, drained, left_in
from tests.component.rabbitmq_members import STACK, publish, ready, take, texts

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def classic(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnedLocalPlatform]:
    stack = msgspec.structs.replace(STACK, rabbitmq=Rabbitmq(queue_kind="classic", dead_letter=False, max_priority=3))
    with brought_up(stack, image, tmp_path_factory.mktemp("members")) as owned:
        ready(owned)
        yield owned


def test_a_classic_queue_has_one_copy_and_no_dead_letters(classic: OwnedLocalPlatform) -> None:
    roles = queue_roles(classic)
    assert sorted(role.queue for role in roles) == sorted(QUEUES)
    assert {role.role for role in roles} == {"leader"}


@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "transient"])
def test_a_killed_member_loses_what_is_not_persistent(
    classic: OwnedLocalPlatform, tmp_path: Path, persistent: bool
) -> None:
    """The only copy of a queue is where it was declared; the member is started again, and has what is on its disk."""
    with client_on(classic, tmp_path, persistent=persistent) as client:
        client.publish_more(90)
        os.kill(classic.state("rabbitmq-0").handle["server_pid"], signal.SIGKILL)
        time.sleep(4)
        ready(classic)
        client.publish_more(15)
        client.stop()
        there = client.taken() | left_in(drained(classic, client.folder, client.clock))
        lost = {queue: len(client.confirmed(queue) - there) for queue in QUEUES}
        assert lost.pop(QUEUES[0]) in (range(1) if persistent else range(BACKLOG - 2, BACKLOG + 5))
        assert not any(lost.values()), "the members of the other queues lived"


def test_its_messages_come_by_priority(classic: OwnedLocalPlatform) -> None:
    for number, priority in enumerate((0, 3, 1)):
        publish(classic, "rabbitmq-0", "session-events", f"p-{number}", priority=priority)
    assert texts(take(classic, "rabbitmq-1", "session-events")) == ["p-1", "p-2", "p-0"]
