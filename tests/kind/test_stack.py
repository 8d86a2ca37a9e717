"""The stack as a real cluster keeps it: who gets in to Redis, and what forming it a second time does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from resilience.spec.stack import PORTS
from tests.kind.conftest import Field
from tests.waiting import until

pytestmark = pytest.mark.kind
STRANGER = "stranger"  # a namespace that is none of HarmonyFlow's
JOB = "job/redis-cluster-init"
REDIS = tuple(f"redis-cluster-{number}" for number in range(6))
CONNECT = (
    "import socket, sys\n"
    "try:\n"
    "    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()\n"
    "    print('connected')\n"
    "except TimeoutError:\n"
    "    print('no answer')\n"
)


@pytest.fixture
def stranger(field: Field) -> Iterator[str]:
    """A pod that runs in a namespace of its own."""
    image = field.cluster.kubectl(
        "get", "pods", "-n", "harmonyflow", "-l", "app.kubernetes.io/component=session", "-o",
        "jsonpath={.items[0].spec.containers[0].image}",
    )  # fmt: skip
    field.cluster.kubectl("create", "namespace", STRANGER)
    try:
        field.cluster.kubectl(
            "run", STRANGER, "-n", STRANGER, f"--image={image}", "--image-pull-policy=IfNotPresent", "--command",
            "--", "sleep", "300",
        )  # fmt: skip
        field.cluster.kubectl(
            "wait", "--for=condition=Ready", f"pod/{STRANGER}", "-n", STRANGER, "--timeout=60s", timeout_s=70
        )
        yield STRANGER
    finally:
        field.cluster.kubectl("delete", "namespace", STRANGER, "--wait=false")


def connecting(field: Field, namespace: str, pod: str, address: str, port: int = PORTS["redis"]) -> str:
    """What comes of connecting to a port, Redis' say, from a pod."""
    command = ("python3", "-c", CONNECT, address, str(port))
    return field.cluster.kubectl("exec", "-n", namespace, pod, "--", *command, timeout_s=30).strip()


def test_redis_answers_its_clients_and_no_other_namespace(field: Field, stranger: str) -> None:
    states = {state.name: state for state in field.platform.states()}
    session = next(state for state in states.values() if state.component == "session")
    address = states["redis-cluster-0"].address
    assert connecting(field, "harmonyflow", session.handle["pod"], address) == "connected"
    assert connecting(field, stranger, stranger, address) == "no answer"


def redis_cli(field: Field, pod: str, *words: str) -> str:
    return field.cluster.kubectl("exec", "-n", "redis", pod, "-c", "redis", "--", "redis-cli", *words)


def redis_nodes(field: Field) -> dict[str, tuple[str, str, str]]:
    """Of each member, by its id: its role, whom it follows, its slots, as one of them sees it."""
    lines = [line.split() for line in redis_cli(field, "redis-cluster-0", "cluster", "nodes").splitlines()]
    return {
        words[0]: (words[2].removeprefix("myself,"), words[3], " ".join(words[8:])) for words in lines if words
    }  # fmt: skip


def primaries(field: Field) -> set[str]:
    return {node for node, (role, _follows, _slots) in redis_nodes(field).items() if role == "master"}


def replication(field: Field) -> dict[str, str]:
    """What each member says of its replication."""
    return {name: redis_cli(field, name, "info", "replication") for name in REDIS}


def formed_again(field: Field) -> str:
    """Runs the job that forms the cluster once more; what it said."""
    found: dict[str, Any] = json.loads(field.cluster.kubectl("get", JOB, "-n", "redis", "-o", "json"))
    kept = {name: value for name, value in found["metadata"]["labels"].items() if name.startswith("app.kubernetes.io/")}
    template = found["spec"]["template"] | {"metadata": {"labels": kept}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "redis-cluster-init", "namespace": "redis", "labels": kept},
        "spec": {"backoffLimit": 0, "template": template},
    }
    field.cluster.kubectl("delete", JOB, "-n", "redis", "--wait=true", timeout_s=60)
    field.cluster.kubectl("create", "-f", "-", text=json.dumps(job))
    field.cluster.kubectl("wait", "--for=condition=Complete", JOB, "-n", "redis", "--timeout=120s", timeout_s=130)
    return field.cluster.kubectl("logs", JOB, "-n", "redis")


def test_forming_it_again_leaves_it_as_it_is_whoever_has_become_primary(field: Field) -> None:
    before = primaries(field)
    replica = next(name for name, said in replication(field).items() if "role:slave" in said)
    assert redis_cli(field, replica, "cluster", "failover").strip() == "OK"
    until(lambda: len(primaries(field) - before) == 1, 30, every_s=0.5)
    until(lambda: not any("master_link_status:down" in said for said in replication(field).values()), 30, every_s=0.5)
    stood = redis_nodes(field)
    assert "the cluster is ready" in formed_again(field)
    assert redis_nodes(field) == stood
