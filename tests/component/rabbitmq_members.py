"""Three RabbitMQ members and nothing else: a stack for tests, and what clients do with it over the management API."""

import time
from collections.abc import Callable
from typing import Any

from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.spec.rabbitmq import VHOST, Rabbitmq
from resilience.spec.stack import Async, Member, Redis, Stack
from resilience.stack.rabbitmq import PASSWORD, form, queue_roles, tell, wait_ready

PATIENCE_S = 60.0  # the machine may be busy with something else
NAMES = ("rabbitmq-0", "rabbitmq-1", "rabbitmq-2")
STACK = Stack(
    name="three",
    durability=Async(),
    nodes=("node-1", "node-2", "node-3"),
    restart_delay_s=1,
    session_ttl_s=600,
    scrape_interval_s=1,
    redis=Redis(),
    shards=(),
    members=tuple(Member(name=name, component="rabbitmq", node=f"node-{at}") for at, name in enumerate(NAMES, 1)),
    rabbitmq=Rabbitmq(net_ticktime_s=8, delivery_limit=2),
)


def within(seconds: float = PATIENCE_S) -> float:
    return time.monotonic() + seconds


def ready(platform: OwnedLocalPlatform) -> None:
    form(platform, within())
    wait_ready(platform, within())


def eventually[Seen](look: Callable[[], Seen], holds: Callable[[Seen], bool]) -> Seen:
    ends_at = within()
    while not holds(seen := look()):
        assert time.monotonic() < ends_at, seen
        time.sleep(0.2)
    return seen


def leader_of(platform: OwnedLocalPlatform, queue: str) -> str:
    found = [role.member for role in queue_roles(platform) if role.queue == queue and role.role == "leader"]
    return found[0] if found else ""


def told(platform: OwnedLocalPlatform, member: str, path: str, payload: dict[str, Any]) -> Any:
    return tell(platform.state(member), platform.secret(PASSWORD), path, payload).json()


def publish(platform: OwnedLocalPlatform, member: str, queue: str, text: str, **properties: Any) -> None:
    message = {"properties": {"delivery_mode": 2, **properties}, "routing_key": queue, "payload": text}
    path = f"/api/exchanges/{VHOST}/amq.default/publish"
    assert told(platform, member, path, {**message, "payload_encoding": "string"}) == {"routed": True}


def take(platform: OwnedLocalPlatform, member: str, queue: str, mode: str = "ack_requeue_false") -> list[Any]:
    wanted = {"count": 100, "ackmode": mode, "encoding": "auto"}
    found: list[Any] = told(platform, member, f"/api/queues/{VHOST}/{queue}/get", wanted)
    return found


def texts(messages: list[Any]) -> list[str]:
    return [message["payload"] for message in messages]
