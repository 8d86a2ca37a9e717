import time
from pathlib import Path

import msgspec
import pytest

from resilience.errors import SpecError, StackError
from resilience.job import read_stack
from resilience.redis_init import form
from resilience.spec.read import read_stack as stack_of_file
from tests.unit.backend.kubernetes.cluster import NODES, RecordedApi, pod, pods_path

ROOT = Path(__file__).resolve().parents[2]
STACK = stack_of_file(ROOT, "stacks/local/harmonyflow.yaml")


def test_the_stack_of_the_config_map(tmp_path: Path):
    file = tmp_path / "stack.json"
    file.write_bytes(msgspec.json.encode(STACK))
    assert read_stack(file) == STACK


@pytest.mark.parametrize("content", ["", "{}", None])
def test_no_stack(tmp_path: Path, content: str | None):
    file = tmp_path / "stack.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SpecError, match="no stack"):
        read_stack(file)


def test_pods_that_never_come_are_named(tmp_path: Path):
    pods = [pod(f"redis-cluster-{number}", ip="" if number == 4 else "10.244.1.5") for number in range(6)]
    cluster = RecordedApi({"/api/v1/nodes": NODES, pods_path("redis"): {"items": pods}})
    with pytest.raises(StackError, match="no running pod for redis-cluster-4"):
        form(STACK, cluster.api(), tmp_path / "password", time.monotonic() - 1, print)
