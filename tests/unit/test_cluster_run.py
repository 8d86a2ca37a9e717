"""A run in a cluster as it ends outside: whatever became of its pod, what there is is judged and says why."""

import errno
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from resilience import cluster_cli, cluster_run, runner
from resilience.backend.kind import Kind
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.images import PROJECT
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.desk import Desk
from resilience.cluster_run import (
    Asked,
    ClusterPlace,
    asks_the_machine,
    last_us,
    left_broken,
    left_injected,
    note,
    play,
)
from resilience.errors import StackError
from resilience.interrupt import Interrupted, interruptible
from resilience.report.run import Run
from resilience.report.store import RunStore
from resilience.spec.read import read_scenario
from tests.fakes import FakeAgents, FakeStaging
from tests.unit.backend.kubernetes.cluster import NODES, PLATFORM, RecordedApi, node, pod, pods_path
from tests.waiting import until

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


def test_who_has_ended_the_runner_is_a_reason(record: Run) -> None:
    staging = FakeStaging(code=137, lost="the runner's pod was ended by its node, Evicted")
    assert play(staging, record, "image:1") == (137, ["the runner's pod was ended by its node, Evicted"])


def test_a_disk_that_is_full_outside_is_a_reason_and_the_pod_is_ended(record: Run) -> None:
    staging = FakeStaging(fails={"fetch": OSError(errno.ENOSPC, "No space left on device")})
    assert play(staging, record, "image:1") == (0, ["[Errno 28] No space left on device"])
    assert staging.done[-1] == "end"


@pytest.mark.parametrize(
    ("step", "code", "reason", "done"),
    [
        ("start", 143, "before the runner could hear of it", ["start image:1", "end_loads", "fetch", "end"]),
        ("follow", 0, "", ["start image:1", "follow", "interrupt 15", "follow", "end_loads", "fetch", "end"]),
        (
            "fetch",
            0,
            "SIGTERM came at its end",
            ["start image:1", "follow", "end_loads", "fetch", "fetch", "end"],
        ),
    ],
)
def test_a_signal_at_any_moment_costs_nothing_of_the_record(
    record: Run, step: str, code: int, reason: str, done: list[str]
) -> None:
    staging = FakeStaging(fails={step: Interrupted(signal.SIGTERM)}, missing=["a file"])
    ended, reasons = play(staging, record, "image:1")
    assert (ended, staging.done) == (code, done)
    assert reasons[-1] == "a file"
    assert reason in "; ".join(reasons)


def test_how_the_runner_ended_and_what_did_not_come_whole_are_handed_on(record: Run) -> None:
    staging = FakeStaging(code=137, missing=["load/direct.ops.jsonl: it did not come within 60 s"])
    assert play(staging, record, "image:1") == (137, ["load/direct.ops.jsonl: it did not come within 60 s"])


def test_a_record_that_did_not_come_whole_makes_the_run_inconclusive_and_says_why(record: Run) -> None:
    whole = runner.judge_run(record, None, Console(quiet=True))
    note(record, ["load/direct.ops.jsonl: its checksum is not that of the run's own file (7 bytes)"])
    judged = runner.judge_run(record, None, Console(quiet=True))
    assert whole.verdict == "pass"
    assert judged.verdict == "inconclusive"
    finding = next(one for one in judged.findings if one.check == "assumption.not-interrupted")
    assert "load/direct.ops.jsonl: its checksum is not that of the run's own file" in finding.reason


def test_a_reason_moves_no_end_of_the_record_and_none_is_lost_in_a_torn_line(record: Run) -> None:
    lines = record.history.read_bytes().splitlines(keepends=True)
    cut = [line for line in lines if b'"ended"' not in line][:-3]
    record.history.write_bytes(b"".join(cut) + b'["clock",640')
    before = runner.judge_run(record, None, Console(quiet=True))
    note(record, ["one", "two"])
    after = runner.judge_run(record, None, Console(quiet=True))
    assert last_us(record.history) / 1e6 < 68
    (broke_off,) = re.findall("the record breaks off at [0-9.]+ s, [a-z ]+", before.headline)
    assert broke_off in after.headline + "".join(finding.reason for finding in after.findings)
    (finding,) = [one for one in after.findings if one.check == "assumption.not-interrupted"]
    assert "the record: one" in finding.reason
    assert "the record: two" in finding.reason


def test_a_record_with_nothing_wrong_is_left_as_it_is(tmp_path: Path) -> None:
    record = Run(tmp_path)
    note(record, [])
    assert list(tmp_path.iterdir()) == []
    note(record, ["nothing came"])
    assert last_us(record.history) == 0
    assert b"nothing came" in record.history.read_bytes()


@pytest.mark.parametrize(
    ("name", "expect"),
    [
        ("redis-failover", True),
        ("node-freeze", True),
        ("rolling-restart-session", True),
        ("session-delete", True),
        ("session-scale-down", True),
        ("session-denied-redis", True),
        ("redis-kill-replica", False),
        ("baseline", False),
    ],
)
def test_who_looks_after_the_mailbox(name: str, expect: bool) -> None:
    assert asks_the_machine(read_scenario(PROJECT_ROOT, name)) is expect


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


class LeftCluster(Kind):
    """A cluster of ours as an older run has left it; it can be looked at, and hears what would be made in it."""

    def __init__(self, *, injected: bool = False, broken: bool = False, terminating: bool = False) -> None:
        super().__init__(Path("nowhere"))
        pods = [pod("agent-hf-worker", component="agent", namespace="resilience")] if injected else []
        phase = "Terminating" if terminating else "Active"
        space = {"metadata": {"name": "redis", "labels": {"harmonyflow.dev/harness": "allowed"}}}
        self.api = RecordedApi(
            {
                "/api/v1/nodes": NODES,
                "/api/v1/namespaces/redis": {**space, "status": {"phase": phase}},
                pods_path("resilience"): {"items": pods},
                pods_path("monitoring"): {"items": []},
            }
        )
        self.broken = ["hf-worker (paused, connected)"] if broken else []
        self.made: list[str] = []

    def open(self) -> Api:
        return self.api.api()

    def broken_nodes(self) -> list[str]:
        return self.broken

    def machine(self, api: Api) -> Desk:
        del api
        return NoMachine()

    def run(self, namespace: str, pod: str, argv: tuple[str, ...], text: str, timeout_s: float) -> str:
        del namespace, pod, text, timeout_s
        assert argv[-1] == "open"
        return '{"open": ["redis-failover-1f0c"]}'

    def make_room_for_lock(self) -> None:
        self.made.append("room for the lock")

    def clear(self) -> None:
        self.made.append("room for a stack")
        raise StackError("the older stack would be ended now")


class NoMachine(Desk):
    """A machine that nothing was asked of."""

    def __init__(self) -> None:
        """Knows of nothing."""

    def ask(self, command: str, request: Mapping[str, object], timeout_s: float) -> dict[str, object]:
        del request, timeout_s
        assert command == "open"
        return {"open": []}


ROOM = "room for the lock"


@pytest.mark.parametrize(
    ("cluster", "words", "made"),
    [
        (LeftCluster(), "the older stack would be ended now", [ROOM, "room for a stack"]),
        (LeftCluster(injected=True), r"left what it injected: redis-failover-1f0c \(hf-worker\)", [ROOM]),
        (LeftCluster(broken=True), "left the cluster harmonyflow broken: hf-worker", [ROOM]),
        (LeftCluster(terminating=True), "namespace redis is still being ended", []),
    ],
    ids=["well", "injected", "broken", "terminating"],
)
def test_a_run_begins_in_a_cluster_only_that_is_healed(
    cluster: LeftCluster, words: str, made: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster_cli, "make_if_missing", lambda _found: None)
    asked = Asked(
        scenario=read_scenario(PROJECT_ROOT, "baseline"), store=RunStore(tmp_path, None), rerun="", as_control=False
    )
    with pytest.raises(StackError, match=words):
        ClusterPlace(cluster=cluster, images={}, break_lock=False).run(asked)
    assert cluster.made == made
    assert not [path for path in cluster.api.answers if "leases" in path], "the lock is let go"
    assert list(tmp_path.iterdir()) == []


TAKEN = "the lock on the cluster was taken away: you holds it"


class Losable:
    """A lock that is held until the test has it taken away; see `lease.locked`."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.end: Callable[[], None] = lambda: None
        self.cluster = LeftCluster()

    @contextmanager
    def locked(self, _lock: object, *, break_stale: bool, end: Callable[[], None]) -> Iterator[list[str]]:
        del break_stale
        self.end = end
        yield self.lost

    def lose(self, *_arguments: object) -> None:
        """Somebody else takes it; whoever works under it is ended here."""
        self.lost.append(TAKEN)
        self.end()
        until(lambda: False)


@pytest.fixture
def losable(monkeypatch: pytest.MonkeyPatch) -> Losable:
    """Such a lock, in a cluster in which all else is well."""
    found = Losable()
    cluster = found.cluster
    cluster.api.answers[pods_path("harmonyflow")] = cluster.api.answers[pods_path("redis")] = {"items": []}
    monkeypatch.setattr(cluster_cli, "locked", found.locked)
    for step in ("make_if_missing", "require_whole", "require_healed", "clear", "bring_up", "heal_left"):
        monkeypatch.setattr(cluster_cli, step, lambda *_arguments: None)
    return found


def asked(folder: Path, name: str = "baseline") -> Asked:
    return Asked(scenario=read_scenario(PROJECT_ROOT, name), store=RunStore(folder, None), rerun="", as_control=True)


def test_a_lock_that_is_lost_before_the_run_begins_is_why_it_ends(
    losable: Losable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cluster_cli, "bring_up", losable.lose)
    with interruptible(print), pytest.raises(StackError, match=f"^broken off: {TAKEN}$"):
        ClusterPlace(cluster=losable.cluster, images={}, break_lock=False).run(asked(tmp_path))


def test_a_person_who_ends_it_before_is_no_lost_lock(
    losable: Losable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(cluster_cli, "bring_up", interrupted)
    with pytest.raises(Interrupted):
        ClusterPlace(cluster=losable.cluster, images={}, break_lock=False).run(asked(tmp_path))


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_lock_that_is_lost_during_the_run_ends_it_and_nothing_of_the_cluster_is_touched(
    losable: Losable, monkeypatch: pytest.MonkeyPatch, record: Run, tmp_path: Path, *, is_taken: bool
) -> None:
    class Losing(FakeStaging):
        def follow(self) -> int:
            code = super().follow()
            if is_taken and not losable.lost:
                losable.lose()
            return code

    def left(_platform: object) -> list[str]:
        put_right.append("healed")
        return []

    staging, put_right = Losing(code=143), list[str]()
    place = ClusterPlace(cluster=losable.cluster, images={PROJECT: "image:1"}, break_lock=False)
    monkeypatch.setattr(cluster_run, "Staging", lambda *_arguments: staging)
    monkeypatch.setattr(runner, "opened", lambda *_arguments: record)
    monkeypatch.setattr(cluster_run, "needed_for", lambda *_arguments: None)
    monkeypatch.setattr(cluster_run, "left_injected", left)
    with interruptible(print):
        outcome, _directory = place.run(asked(tmp_path))
    told = next(one for one in outcome.judgement.findings if one.check == "assumption.not-interrupted")
    steps = ["follow", "interrupt 15", "follow"] if is_taken else ["follow"]
    assert staging.done == ["start image:1", *steps, "end_loads", "fetch", "end"]
    assert outcome.cut_short_code == (4 if is_taken else 143)
    assert outcome.judgement.verdict == ("inconclusive" if is_taken else "pass")
    assert (TAKEN in told.reason) is is_taken
    assert put_right == ([] if is_taken else ["healed"])
    said = [path for method, path, _query in losable.cluster.api.asked if method == "PATCH"]
    assert said[0].endswith("/configmaps/machine"), "the runner is not told that the harness is there"


def test_what_a_runner_that_was_cut_short_left_injected_is_ended_and_told() -> None:
    api = RecordedApi(
        {
            "/api/v1/nodes": {"items": [node("hf-worker", "node-1", PLATFORM)]},
            **{pods_path(space): {"items": []} for space in ("redis", "harmonyflow")},
            pods_path("resilience"): {"items": [pod("agent-hf-worker", component="agent", namespace="resilience")]},
            pods_path("monitoring"): {"items": [pod("witness-x", component="witness", namespace="monitoring")]},
        }
    )
    fake = FakeAgents({"agent-hf-worker": "hf-worker", "witness-x": "witness"})
    agents = Agents(api.api(), fake.run, sleep=lambda _seconds: None, patience_s=0.0)
    platform = KubernetesPlatform(api.api(), read_scenario(PROJECT_ROOT, "baseline").stack, str, agents=agents)
    assert left_injected(lambda: platform) == []
    fake.told["hf-worker"] = {"injection": {"id": "redis-pause-1f0c", "steps": [{}]}, "parts": 1}
    assert left_injected(lambda: platform) == ["injection redis-pause-1f0c: the runner had left it so"]
    assert fake.ended_by == {"hf-worker": "request"}
    fake.ended_by.clear()
    fake.blind.add("hf-worker")
    (reason,) = left_injected(lambda: platform)
    assert reason.endswith("the runner had left it so; that it has ended is not proved")
    fake.refuses.add("hf-worker")
    (reason,) = left_injected(lambda: platform)
    assert "could not be ended: agent of hf-worker: refused by the test" in reason


def test_a_cluster_that_cannot_be_asked_at_the_end_is_a_reason_and_what_there_is_is_judged() -> None:
    def away() -> KubernetesPlatform:
        raise StackError("the API server does not answer")

    assert left_injected(away) == ["the API server does not answer"]
