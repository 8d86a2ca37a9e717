"""What the pod of a run says of its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from resilience.backend.kind import Kind
from resilience.backend.kubernetes.api import Api, ApiError, Call
from resilience.backend.kubernetes.staging import GONE, Staging, ended_code
from resilience.backend.kubernetes.workload import LOAD
from resilience.backend.local.place import PROJECT_ROOT
from resilience.errors import StackError
from resilience.spec.read import read_stack
from tests.fakes import FakeRunnerPod
from tests.unit.backend.kubernetes.cluster import RecordedApi, pods_path

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")


def pod(phase: str, **state: Any) -> dict[str, Any]:
    statuses = [{"name": "records", "state": {"running": {}}}, {"name": "runner", "state": state}] if state else []
    return {"status": {"phase": phase, "containerStatuses": statuses}}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (pod("Pending"), None),
        (pod("Pending", waiting={"reason": "ContainerCreating"}), None),
        (pod("Running", running={}), None),
        (pod("Running", terminated={"exitCode": 0}), 0),
        (pod("Running", terminated={"exitCode": 143}), 143),
        (pod("Running", terminated={}), GONE),
        (pod("Failed"), GONE),
    ],
    ids=["no container", "not started", "plays", "has played", "interrupted", "without a code", "evicted"],
)
def test_the_end_of_the_runner(found: dict[str, Any], code: int | None) -> None:
    assert ended_code(found) == code


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def followed(call: Call) -> tuple[int, list[str]]:
    """The runner's exit code, and what was shown until then."""
    shown: list[str] = []
    api = Api(call, "a cluster", sleep=lambda _seconds: None, patience_s=0.0)
    return Staging(Kind(Path("nowhere")), api, STACK, shown.append).follow(), shown


def unanswered(status: int) -> Call:
    def call(_method: str, path: str, _query: Mapping[str, str], _body: Any) -> bytes:
        raise ApiError(f"{path}: no answer", status)

    return call


def test_each_line_is_shown_once_and_whole() -> None:
    runner = FakeRunnerPod(["", "a", "a\nb\nhal", ApiError("away", 0), "a\nb\nhalf\nlast"], code=4)
    assert followed(runner.call) == (4, ["a", "b", "half", "last"])


def test_a_pod_that_is_gone_ended_the_run() -> None:
    assert followed(unanswered(404)) == (GONE, [])


def test_a_cluster_that_is_gone_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000, 60))
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    with pytest.raises(StackError, match="the API server has been away for 300 s"):
        followed(unanswered(0))


@pytest.mark.parametrize(("phase", "writes"), [("Running", True), ("Succeeded", False), ("Failed", False)])
def test_a_load_that_does_not_end_may_have_written_more_than_is_taken_out(
    monkeypatch: pytest.MonkeyPatch, phase: str, writes: bool
) -> None:
    ticks = iter(range(0, 10_000, 15))
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    client = {"metadata": {"name": "loadgen-x", "labels": {LOAD: "true"}}, "status": {"phase": phase}}
    api = RecordedApi({pods_path("monitoring"): {"items": [client]}})
    staging = Staging(Kind(Path("nowhere")), api.api(), STACK, print)
    if not writes:
        return staging.end_loads()
    with pytest.raises(StackError, match=r"the load still runs 20 s after its end \(loadgen-x\)"):
        staging.end_loads()
    return None
