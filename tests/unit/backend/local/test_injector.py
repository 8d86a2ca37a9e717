"""What the local backend does to whole nodes, worked out on paper."""

import pytest

from resilience.backend.base import NodeFault
from resilience.backend.local.paper import PaperPlatform
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import FaultError
from resilience.spec.read import read_stack

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
NODE_1 = ["redis-cluster-0", "redis-cluster-5", "session-0"]


@pytest.mark.parametrize(
    ("what", "expect"),
    [("power-off", ["hold", "links", "signal"]), ("freeze", ["pause"]), ("isolate", ["links"])],
)
def test_what_is_done_to_a_node(what: NodeFault, expect: list[str]) -> None:
    steps = PaperPlatform(STACK).node_steps(what, ["node-1"], NODE_1)
    assert [step["primitive"] for step in steps] == expect
    for step in steps:
        named = step.get("devices") or step.get("dirs") or [member["name"] for member in step["members"]]
        assert named == NODE_1


def test_what_only_a_cluster_can_do_is_refused() -> None:
    with pytest.raises(FaultError, match=r"drain of node-1: .* it needs kind"):
        PaperPlatform(STACK).drain_steps(["node-1"], NODE_1)
    with pytest.raises(FaultError, match=r"rolling restart of session-0, session-1: .* it needs kind"):
        PaperPlatform(STACK).rollout_steps(["session-0", "session-1"])
    with pytest.raises(FaultError, match=r"scale of session-0, session-1: .* it needs kind"):
        PaperPlatform(STACK).scale_steps(["session-0", "session-1"], 1)
    with pytest.raises(FaultError, match=r"deny of session-0 to redis-cluster-0: .* it needs kind"):
        PaperPlatform(STACK).deny_steps(["session-0"], ["redis-cluster-0"])
    with pytest.raises(FaultError, match=r"deletion of session-0: .* it needs kind"):
        PaperPlatform(STACK).delete_steps(["session-0"], 0)


def test_a_node_without_a_system_of_its_own_is_not_rebooted() -> None:
    with pytest.raises(FaultError, match=r"reboot of node-1: .* it needs kind"):
        PaperPlatform(STACK).node_steps("reboot", ["node-1"], NODE_1)
