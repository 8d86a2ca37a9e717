"""The job that declares queues waits for the members' pods, and says which are missing."""

import time
from pathlib import Path

import pytest

from resilience.errors import StackError
from resilience.rabbitmq_init import form
from resilience.spec.read import read_stack
from tests.unit.backend.kubernetes.cluster import NODES, RecordedApi, pod, pods_path

ROOT = Path(__file__).resolve().parents[2]
STACK = read_stack(ROOT, "stacks/local/rabbitmq.yaml")


def pods(*, without_address: int) -> list[dict[str, object]]:
    return [
        pod(
            f"rabbitmq-{number}",
            component="rabbitmq",
            namespace="rabbitmq",
            ip="" if number == without_address else "10.1",
        )
        for number in range(3)
    ]


def test_pods_that_never_come_are_named(tmp_path: Path) -> None:
    cluster = RecordedApi({"/api/v1/nodes": NODES, pods_path("rabbitmq"): {"items": pods(without_address=1)}})
    with pytest.raises(StackError, match=r"the RabbitMQ members' pods.*no running pod for rabbitmq-1"):
        form(STACK, cluster.api(), tmp_path / "password", time.monotonic() - 1, print)


def test_a_password_that_is_missing_is_told(tmp_path: Path) -> None:
    cluster = RecordedApi({"/api/v1/nodes": NODES, pods_path("rabbitmq"): {"items": pods(without_address=9)}})
    with pytest.raises(StackError, match="secret password"):
        form(STACK, cluster.api(), tmp_path / "password", time.monotonic() + 1, print)
