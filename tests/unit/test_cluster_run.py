"""A run in a cluster as it ends outside: whatever became of its pod, what there is is judged and says why."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from resilience import runner
from resilience.backend.kind import Kind
from resilience.backend.local.place import PROJECT_ROOT
from resilience.cluster_run import breaks_nodes, left_broken, note, play
from resilience.errors import StackError
from resilience.report.run import Run
from resilience.spec.read import read_scenario
from tests.fakes import FakeStaging

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "failover"


@pytest.fixture
def record(tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(GOLDEN, tmp_path / "run")))


def test_the_pod_is_given_what_is_known_before_the_run(record: Run) -> None:
    staging = FakeStaging()
    assert play(staging, record, "image:1") == (0, [])
    assert set(staging.files) == {"spec.json", "control.json"}
    assert staging.done == ["start image:1", "follow", "end_loads", "fetch", "end"]


@pytest.mark.parametrize(
    ("fails", "code", "done"),
    [
        ("start", 4, ["start image:1", "end_loads", "fetch", "end"]),
        ("end_loads", 0, ["start image:1", "follow", "end_loads", "fetch", "end"]),
        ("end", 0, ["start image:1", "follow", "end_loads", "fetch", "end"]),
    ],
)
def test_what_went_wrong_is_a_reason_and_the_pod_is_ended(record: Run, fails: str, code: int, done: list[str]) -> None:
    staging = FakeStaging(fails={fails: StackError(f"{fails}: no route to host")})
    assert play(staging, record, "image:1") == (code, [f"{fails}: no route to host"])
    assert staging.done == done


def test_how_the_runner_ended_and_what_did_not_come_whole_are_handed_on(record: Run) -> None:
    staging = FakeStaging(code=137, missing=["load/direct.ops.jsonl: it did not come within 60 s"])
    assert play(staging, record, "image:1") == (137, ["load/direct.ops.jsonl: it did not come within 60 s"])


def test_a_record_that_did_not_come_whole_makes_the_run_inconclusive_and_says_why(record: Run) -> None:
    whole = runner.judge_run(record, None, Console(quiet=True))
    note(record, ["load/direct.ops.jsonl: its checksum is not that of the run's own file (7 bytes)"], 80.0)
    judged = runner.judge_run(record, None, Console(quiet=True))
    assert whole.verdict == "pass"
    assert judged.verdict == "inconclusive"
    finding = next(one for one in judged.findings if one.check == "assumption.not-interrupted")
    assert "load/direct.ops.jsonl: its checksum is not that of the run's own file" in finding.reason


@pytest.mark.parametrize(
    ("name", "expect"),
    [("redis-failover", True), ("node-freeze", True), ("redis-kill-replica", False), ("baseline", False)],
)
def test_who_looks_after_the_mailbox(name: str, expect: bool) -> None:
    assert breaks_nodes(read_scenario(PROJECT_ROOT, name)) is expect


class Cluster(Kind):
    """A cluster of which this is known when its nodes are put right."""

    def __init__(self, *lines: str, trouble: str = "") -> None:
        super().__init__(Path("nowhere"))
        self.lines, self.trouble = list(lines), trouble

    def put_nodes_right(self) -> list[str]:
        if self.trouble:
            raise StackError(self.trouble)
        return self.lines


@pytest.mark.parametrize(
    ("cluster", "reasons"),
    [
        (Cluster(), []),
        (Cluster("node hf-worker: let go on"), ["node hf-worker: let go on: the runner had left it so"]),
        (Cluster(trouble="Docker is away"), ["Docker is away"]),
    ],
    ids=["well", "broken", "unknown"],
)
def test_a_node_that_the_runner_left_broken_is_put_right_and_told(cluster: Cluster, reasons: list[str]) -> None:
    assert left_broken(cluster) == reasons
