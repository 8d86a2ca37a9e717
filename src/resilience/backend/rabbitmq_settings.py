"""The RabbitMQ members' settings, rendered from a stack file: configuration, definitions, plugins.

Definitions come in two files. What a member reads at its first start makes the user, the vhost and the policies; the
queues are declared when all members are there, since a quorum queue has its followers on the members that there are
at that moment.
"""

import base64
import hashlib
from collections.abc import Collection
from typing import Any

import msgspec

from resilience.backend.settings import Hosts, render
from resilience.spec.rabbitmq import (
    MANAGEMENT_PORT,
    METRICS_PORT,
    PRIORITY_QUEUE,
    QUEUES,
    ROOM_EXCHANGE,
    ROOM_QUEUE,
    SERVER_PORT,
    USER,
    VHOST,
    Rabbitmq,
    dead_letter_exchange,
    dead_letter_queue,
)
from resilience.spec.stack import Stack

NEEDED_PLUGINS = (
    "rabbitmq_prelaunch",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_prometheus",
    "rabbitmq_web_dispatch",
)
ENABLED_PLUGINS = "[rabbitmq_management,rabbitmq_prometheus].\n"
_PORTS = {"server": SERVER_PORT, "management": MANAGEMENT_PORT, "metrics": METRICS_PORT}
SALT_BYTES = 4
_LASTING = {"durable": True, "auto_delete": False, "arguments": {}}


def rabbitmq_conf(stack: Stack, hosts: Hosts, definitions: str, found_within_s: int = 60) -> str:
    """``rabbitmq.conf``; ``definitions`` is where a member finds its definitions, ``found_within_s`` how long after one
    another members may start.
    """
    return render(
        "rabbitmq/rabbitmq.conf.j2",
        ports=_PORTS,
        hosts=[hosts(member) for member in stack.of("rabbitmq")],
        rabbitmq=settings_of(stack),
        definitions=definitions,
        found_within_s=found_within_s,
    )


def definitions_json(stack: Stack, password: str, salt: bytes) -> bytes:
    """User, vhost and policies; the user by a salted hash, so the password is in no file of a member's."""
    user = {
        "name": USER,
        "password_hash": password_hash(password, salt),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ["administrator"],
    }
    permissions = {"user": USER, "vhost": VHOST, "configure": ".*", "write": ".*", "read": ".*"}
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "users": [user],
                "vhosts": [{"name": VHOST}],
                "permissions": [permissions],
                "policies": [_policy(queue, settings_of(stack)) for queue in QUEUES],
            }
        )
    )


def queue_definitions(stack: Stack, names: Collection[str]) -> dict[str, Any]:
    """These queues, and, of those that take dead letters or edits, the exchanges that these come by; plain JSON."""
    rabbitmq = settings_of(stack)
    dead = {dead_letter_queue(queue): dead_letter_exchange(queue) for queue in QUEUES}
    taking = {queue: dead[queue] for queue in names if queue in dead}
    if stack.has_room_events and ROOM_QUEUE in names:
        taking[ROOM_QUEUE] = ROOM_EXCHANGE
    exchanges = [
        {"name": exchange, "vhost": VHOST, "type": "fanout", **_LASTING, "internal": False}
        for exchange in taking.values()
    ]
    bindings = [
        {
            "source": exchange,
            "vhost": VHOST,
            "destination": queue,
            "destination_type": "queue",
            "routing_key": "",
            "arguments": {},
        }
        for queue, exchange in taking.items()
    ]
    queues = [
        {"name": queue, "vhost": VHOST, "durable": True, "auto_delete": False, "arguments": _arguments(queue, rabbitmq)}
        for queue in names
    ]
    return {"queues": queues, "exchanges": exchanges, "bindings": bindings}


def settings_of(stack: Stack) -> Rabbitmq:
    """The settings of a stack that has RabbitMQ; `spec.coherence` lets no members stand without them."""
    assert stack.rabbitmq is not None
    return stack.rabbitmq


def password_hash(password: str, salt: bytes) -> str:
    """A password as RabbitMQ stores it: a salt of four bytes, and the hash of both."""
    assert len(salt) == SALT_BYTES
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _policy(queue: str, rabbitmq: Rabbitmq) -> dict[str, Any]:
    definition: dict[str, Any] = {"message-ttl": rabbitmq.message_ttl_ms}
    if rabbitmq.queue_kind == "quorum":
        definition["delivery-limit"] = rabbitmq.delivery_limit
    if rabbitmq.dead_letter:
        definition["dead-letter-exchange"] = dead_letter_exchange(queue)
    pattern = f"^{queue}$"
    return {
        "vhost": VHOST,
        "name": queue,
        "pattern": pattern,
        "apply-to": "queues",
        "priority": 0,
        "definition": definition,
    }


def _arguments(queue: str, rabbitmq: Rabbitmq) -> dict[str, Any]:
    arguments: dict[str, Any] = {"x-queue-type": rabbitmq.queue_kind}
    if queue == PRIORITY_QUEUE and rabbitmq.queue_kind == "classic":
        arguments["x-max-priority"] = rabbitmq.max_priority
    return arguments
