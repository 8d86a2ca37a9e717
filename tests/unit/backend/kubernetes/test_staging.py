"""What the pod of a run says of its end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resilience.backend.kind import Kind
from resilience.backend.kubernetes.api import Api, ApiError, Call
from resilience.backend.kubernetes.staging import GONE, Staging, ended_code, lost_by
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


DISK = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod("Running", running={}), ""),
        (pod("Running", terminated={"exitCode": 4, "reason": "Error"}), ""),
        (pod("Running", terminated={"exitCode": 137, "reason": "OOMKilled"}), "more memory than its pod may have"),
        ({"status": DISK}, "the runner's pod was ended by its node, Evicted: The node was low on resource: ephemeral"),
    ],
    ids=["plays", "has ended itself", "no memory", "no disk"],
)
def test_who_has_ended_the_runner_is_told(found: dict[str, Any], words: str) -> None:
    assert words in lost_by(found)
    assert bool(words) == bool(lost_by(found))
    staging = Staging(
        Kind(Path("nowhere")), RecordedApi({f"{pods_path('monitoring')}/runner": found}).api(), STACK, print
    )
    assert staging.lost == ""
    if ended_code(found) is not None:
        staging.follow()
        assert staging.lost == lost_by(found)


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


def test_an_api_server_that_is_restarted_meanwhile_costs_the_run_nothing() -> None:
    runner, looks = FakeRunnerPod(["a", "a\nb", "a\nb\nc\n"], code=0), iter(range(99))

    def restarted(method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        if 3 <= (look := next(looks)) < 9:
            raise ApiError(f"{method} {path}: the API server does not answer", 0 if look < 7 else 503)
        return runner.call(method, path, query, body)

    assert followed(restarted) == (0, ["a", "b", "c"])


def test_a_pod_that_is_gone_ended_the_run() -> None:
    assert followed(unanswered(404)) == (GONE, [])
    staging = Staging(Kind(Path("nowhere")), RecordedApi({}).api(), STACK, print)
    staging.follow()
    assert staging.lost == "somebody has deleted the runner's pod"


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


def test_each_process_of_the_load_is_ended() -> None:
    api = RecordedApi({pods_path("monitoring"): {"items": []}})
    Staging(Kind(Path("nowhere")), api.api(), STACK.with_workers(3), print).end_loads()
    ended = [path.rpartition("/")[2] for method, path, _query in api.asked if method == "DELETE"]
    assert ended == ["loadgen", "loadgen-1", "loadgen-2", "direct-client"]


RUNNER_PATH = f"{pods_path('monitoring')}/runner"


class Exec(Kind):
    """A cluster whose pods take an order only after some that they refused."""

    def __init__(self, *, refuses: int = 0) -> None:
        super().__init__(Path("nowhere"))
        self.refuses, self.orders = refuses, 0

    def kubectl(self, *words: str, timeout_s: float = 0.0, text: str = "") -> str:
        del timeout_s, text
        assert words[0] == "exec"
        if self.refuses:
            self.refuses -= 1
            raise StackError("kubectl: the API server is away")
        self.orders += 1
        return ""


def started(cluster: Kind, api: RecordedApi) -> Staging:
    """A run whose pod was made, and plays."""
    playing = pod("Running", running={})
    made = api.call

    def call(method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        if method == "POST" and body["kind"] == "Pod":
            body = {**body, **playing, "metadata": {**body["metadata"], "uid": "mine"}}
        return made(method, path, query, body)

    api.call = call  # type: ignore[method-assign]
    staging = Staging(cluster, api.api(), STACK, print)
    staging.start("image:1", {})
    return staging


@pytest.mark.parametrize("refuses", [0, 5])
def test_a_signal_is_handed_on_as_soon_as_the_api_server_is_back(refuses: int) -> None:
    cluster = Exec(refuses=refuses)
    started(cluster, RecordedApi({})).interrupt(15)
    assert (cluster.refuses, cluster.orders) == (0, 1)


def test_a_runner_that_has_ended_is_told_nothing() -> None:
    api, cluster = RecordedApi({}), Exec(refuses=99)
    staging = started(cluster, api)
    api.answers[RUNNER_PATH] |= pod("Running", terminated={"exitCode": 0})
    staging.interrupt(15)
    assert cluster.orders == 0


def test_an_api_server_that_does_not_come_back_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    staging = started(Exec(refuses=99), RecordedApi({}))
    ticks = iter(range(0, 10_000, 60))
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    with pytest.raises(StackError, match="the API server is away"):
        staging.interrupt(15)


def test_the_pod_of_a_run_that_has_taken_the_cluster_is_left_alone(tmp_path: Path) -> None:
    """It has the same name, and its load's jobs too."""
    api, cluster = RecordedApi({pods_path("monitoring"): {"items": []}}), Exec()
    staging = started(cluster, api)
    api.answers[RUNNER_PATH]["metadata"]["uid"] = "another"
    assert staging.follow() == GONE
    staging.interrupt(15)
    steps: list[Callable[[], object]] = [staging.end_loads, lambda: staging.fetch(tmp_path), staging.end]
    for step in steps:
        with pytest.raises(StackError, match="that of another run, which has taken the cluster"):
            step()
    assert cluster.orders == 0
    assert not [path for method, path, _query in api.asked if method == "DELETE"]


def test_its_own_is_ended() -> None:
    api = RecordedApi({pods_path("monitoring"): {"items": []}})
    staging = started(Exec(), api)
    staging.end()
    assert RUNNER_PATH not in api.answers
    staging.end()  # what is gone is no trouble
