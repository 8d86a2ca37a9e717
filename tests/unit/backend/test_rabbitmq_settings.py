"""What RabbitMQ members are told, from a stack file."""

import base64
import hashlib
import json

import msgspec
import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.rabbitmq_settings import definitions_json, password_hash, queue_definitions, rabbitmq_conf
from resilience.backend.settings import prometheus_yml
from resilience.spec.rabbitmq import QUEUES, Rabbitmq, all_queues
from resilience.spec.read import read_stack
from resilience.spec.stack import Collaboration, Member, Stack

STACK = read_stack(PROJECT_ROOT, "stacks/local/rabbitmq.yaml")
SECRET = "a-password"


def stack(**fields: object) -> Stack:
    return msgspec.structs.replace(STACK, rabbitmq=Rabbitmq(**fields))  # type: ignore[arg-type]


def name_of(member: Member) -> str:
    return member.name


def directives(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split(" = ", 1) for line in lines)


def test_every_member_knows_all_others_and_what_to_do_without_them() -> None:
    conf = directives(
        rabbitmq_conf(stack(cluster_partition_handling="autoheal", net_ticktime_s=20), name_of, "/d.json")
    )
    nodes = [value for key, value in conf.items() if key.startswith("cluster_formation.classic_config.nodes.")]
    assert nodes == ["rabbit@rabbitmq-0", "rabbit@rabbitmq-1", "rabbit@rabbitmq-2"]
    assert conf["cluster_partition_handling"] == "autoheal"
    assert conf["net_ticktime"] == "20"
    assert conf["definitions.local.path"] == "/d.json"
    assert conf["listeners.tcp.default"] == "5672"


def test_the_user_is_known_by_a_salted_hash() -> None:
    salt = b"\x01\x02\x03\x04"
    text = definitions_json(STACK, SECRET, salt).decode()
    assert SECRET not in text
    stored = base64.b64decode(json.loads(text)["users"][0]["password_hash"])
    assert stored == salt + hashlib.sha256(salt + SECRET.encode()).digest()
    assert password_hash(SECRET, salt) != password_hash(SECRET, b"\x01\x02\x03\x05")
    assert "queues" not in json.loads(text), "they follow when all members are there"


@pytest.mark.parametrize(
    ("fields", "expect"),
    [
        (
            {"message_ttl_ms": 5_000, "delivery_limit": 3},
            {"message-ttl": 5_000, "delivery-limit": 3, "dead-letter-exchange": "session-events.dlx"},
        ),
        ({"dead_letter": False}, {"message-ttl": 3_600_000, "delivery-limit": 20}),
        ({"queue_kind": "classic"}, {"message-ttl": 3_600_000, "dead-letter-exchange": "session-events.dlx"}),
    ],
    ids=["quorum", "no dead letters", "classic"],
)
def test_policies(fields: dict[str, object], expect: dict[str, object]) -> None:
    policies = {one["name"]: one for one in json.loads(definitions_json(stack(**fields), SECRET, b"salt"))["policies"]}
    assert set(policies) == set(QUEUES)
    assert policies["session-events"]["definition"] == expect
    assert policies["session-events"]["pattern"] == "^session-events$", "not the queue of its dead letters"


def test_each_queue_has_a_queue_for_its_dead_letters() -> None:
    told = queue_definitions(stack(), all_queues(Rabbitmq()))
    assert {queue["name"] for queue in told["queues"]} == {*QUEUES, *(f"{queue}.dead" for queue in QUEUES)}
    assert {(one["source"], one["destination"]) for one in told["bindings"]} == {
        (f"{queue}.dlx", f"{queue}.dead") for queue in QUEUES
    }
    assert {one["name"] for one in told["exchanges"]} == {f"{queue}.dlx" for queue in QUEUES}
    assert all(queue["durable"] and queue["arguments"] == {"x-queue-type": "quorum"} for queue in told["queues"])


def test_edits_come_into_their_queue_by_an_exchange_where_they_are_events() -> None:
    rooms = Collaboration(log="postgresql", fanout="rabbitmq")
    told = queue_definitions(msgspec.structs.replace(stack(), collaboration=rooms), QUEUES)
    assert [(one["source"], one["destination"]) for one in told["bindings"]] == [
        ("collaboration-sync", "collaboration-sync")
    ]
    assert [(one["name"], one["type"], one["durable"]) for one in told["exchanges"]] == [
        ("collaboration-sync", "fanout", True)
    ]
    others = queue_definitions(msgspec.structs.replace(stack(), collaboration=rooms), ("session-events",))
    assert (others["exchanges"], others["bindings"]) == ([], [])


def test_only_a_classic_queue_is_told_its_priorities() -> None:
    told = queue_definitions(stack(queue_kind="classic", max_priority=7, dead_letter=False), QUEUES)
    assert {queue["name"]: queue["arguments"].get("x-max-priority") for queue in told["queues"]} == {
        "session-events": 7,
        "content-processing": None,
        "collaboration-sync": None,
    }
    assert (told["exchanges"], told["bindings"]) == ([], [])


def test_prometheus_scrapes_each_member_where_its_plugin_listens() -> None:
    text = prometheus_yml(STACK, name_of)
    assert [f'targets: ["rabbitmq-{number}:15692"]' in text for number in range(3)] == [True, True, True]
    assert "rabbitmq" not in prometheus_yml(read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml"), name_of)
