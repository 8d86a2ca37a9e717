"""Classic queues on three real RabbitMQ members: one copy each, and the priorities that they were declared with."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.spec.rabbitmq import QUEUES, Rabbitmq
from resilience.stack.rabbitmq import queue_roles
from tests.component.local_stack import brought_up
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


def test_its_messages_come_by_priority(classic: OwnedLocalPlatform) -> None:
    for number, priority in enumerate((0, 3, 1)):
        publish(classic, "rabbitmq-0", "session-events", f"p-{number}", priority=priority)
    assert texts(take(classic, "rabbitmq-1", "session-events")) == ["p-1", "p-2", "p-0"]
