"""The agent of a node on disk, with holds as the only steps: nothing of the machine is touched, no daemon started."""

import io
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilience.agent import node as agent
from resilience.agent.error import AgentError
from resilience.agent.job import Job
from resilience.agent.node import AHEAD_S_MAX, Node, _tell_clock, from_environment, main, overdue_ns
from resilience.agent.pod import Pods

BOOT = "0ed17625-b37f-44a7-a5e7-4c2d214c14ba"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(
        state=tmp_path / "state", pods=Pods(allowed=frozenset({"redis"}), logs=tmp_path), boot_id=BOOT, patience_s=0.0
    )


def left(node: Node, name: str = "test-1", ttl_s: float = 5.0, *, told_ns: int = 0, looks: bool = False) -> Path:
    """An injection as an agent leaves it that was killed: applied, with no daemon."""
    folder = node.state / "injections" / name
    folder.mkdir(parents=True)
    hold = {"primitive": "hold", "dirs": [str(node.state / "hold")]}
    request = {
        "injection": {"id": name, "ttl_s": ttl_s, "steps": [] if looks else [hold], "watch": []},
        "parts": 3, "dir": str(folder),
        "ledger": str(node.state / "ledger.jsonl"), "base_ns": 0, "at_ns": 0, "told_ns": told_ns,
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps(request))
    Job(request).apply(0)
    return folder


def held(node: Node) -> list[str]:
    return sorted(path.name for path in (node.state / "hold").iterdir())


def test_what_an_older_agent_left_is_ended(node: Node) -> None:
    left(node)
    left(node, "test-2")
    assert node.open({}) == {"open": ["test-1", "test-2"]}
    node.end_all("restart")
    assert node.open({}) == {"open": []}
    assert held(node) == []
    booked = [json.loads(line) for line in (node.state / "ledger.jsonl").read_text().splitlines()]
    assert [(line["injection"], line["by"]) for line in booked] == [("test-1", "restart"), ("test-2", "restart")]


def test_what_only_looks_is_told_from_what_does_something(node: Node) -> None:
    left(node)
    left(node, "test-2", looks=True)
    assert node.open({}) == {"open": ["test-1", "test-2"], "looks": ["test-2"]}


def test_it_ends_at_the_instant_that_it_was_asked_for_and_waits_no_longer_than_makes_sense(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(node)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    now_ns = time.monotonic_ns()
    node.undo({"id": "test-1", "within_s": 0, "at_ns": now_ns + 3 * 10**9})
    assert 2.0 < slept[0] <= 3.0
    for at_ns, wait_s in ((now_ns + 3_600 * 10**9, AHEAD_S_MAX), (now_ns - 1, 0.0)):
        slept.clear()
        node.undo({"id": "test-1", "within_s": 0, "at_ns": at_ns})
        assert slept[0] == wait_s


def test_who_asks_later_is_told_what_ended_it(node: Node) -> None:
    left(node)
    node.end_all("restart")
    undone = node.undo({"id": "test-1", "within_s": 0})
    assert (undone["by"], undone["parts"], undone["does"]) == ("restart", 3, True)
    assert [item["ok"] for item in undone["evidence"]] == [True]
    (seen,) = node.probe({"id": "test-1"})["evidence"]
    assert (seen["observed"], seen["ok"]) == ("ended by restart", False)


def test_what_ended_long_ago_is_forgotten(node: Node) -> None:
    ended, still_open = left(node), left(node, "test-2")
    node.undo({"id": "test-1", "within_s": 0})
    node.forget(time.time() + 86_000)
    assert ended.exists()
    node.forget(time.time() + 87_000)
    assert not ended.exists()
    assert still_open.exists()
    assert node.probe({"id": "test-1"}) == {"unknown": True}


def test_one_that_cannot_be_ended_does_not_keep_the_others(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    broken = left(node) / "request.json"
    broken.write_text(json.dumps(json.loads(broken.read_text()) | {"injection": {"id": "test-1"}}))
    left(node, "test-2")
    node.end_all("restart")
    assert node.open({}) == {"open": ["test-1"]}
    assert "test-1: request" in capsys.readouterr().err


def test_only_what_outlived_its_time_is_ended(node: Node) -> None:
    left(node)
    left(node, "test-2", ttl_s=100.0)
    now_ns = time.monotonic_ns()
    node.end_overdue(now_ns)
    assert held(node) == ["test-1", "test-2"]
    node.end_overdue(now_ns + 10_000_000_000)
    assert held(node) == ["test-2"]
    assert node.undo({"id": "test-1", "within_s": 0})["by"] == "ttl"


def test_when_it_is_overdue() -> None:
    request = {"told_ns": 10, "at_ns": 0, "injection": {"ttl_s": 5.0}}
    assert overdue_ns(request, {"applied_ns": 1_000}) == 7_000_001_000  # its time, and what its daemon may take
    assert overdue_ns(request, {}) == 37_000_000_010  # it may have been applied late, and then its agent was killed
    assert overdue_ns({**request, "at_ns": 1_000}, {}) == 37_000_001_000


def test_an_effect_without_a_daemon_is_not_proved(node: Node) -> None:
    left(node)
    with pytest.raises(AgentError, match="cannot be proved"):
        node.probe({"id": "test-1"})


def test_undone_without_a_daemon(node: Node) -> None:
    left(node)
    undone = node.undo({"id": "test-1", "within_s": 0})
    assert undone["by"] == "request"
    assert node.undo({"id": "test-1", "within_s": 0}) == undone
    assert held(node) == []


def test_what_it_never_heard_of(node: Node) -> None:
    assert node.probe({"id": "test-9"}) == {"unknown": True}
    assert node.undo({"id": "test-9"}) == {"unknown": True}
    assert node.open({}) == {"open": []}


def apply_request(name: str = "test-1", **changes: Any) -> dict[str, Any]:
    injection = {"id": name, "ttl_s": 5.0, "steps": [], "watch": []}
    return {"injection": injection, "parts": 1, "at_ns": 0, "boot_id": BOOT} | changes


def test_a_second_call_answers_what_the_first_did(node: Node) -> None:
    folder = left(node)
    assert node.apply(apply_request()) == json.loads((folder / "applied.json").read_text())
    node.end_all("restart")
    with pytest.raises(AgentError, match="applied and undone before"):
        node.apply(apply_request())
    (folder / "undone.json").unlink()
    (folder / "applied.json").unlink()
    with pytest.raises(AgentError, match="could not be applied"):
        node.apply(apply_request())


def test_instants_of_another_kernel_are_refused(node: Node) -> None:
    with pytest.raises(AgentError, match="another kernel"):
        node.apply(apply_request(boot_id="another"))
    assert not node.state.exists()


def test_its_clock_is_told_line_by_line_until_one_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    before_ns = time.monotonic_ns()
    assert _tell_clock(["?\n", "?\n", "\n", "?\n"], BOOT) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["boot_id"] for one in told] == [BOOT, BOOT]
    assert before_ns <= told[0]["now_ns"] <= told[1]["now_ns"] <= time.monotonic_ns()


def test_it_is_not_told_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    assert _tell_clock(itertools.repeat("?\n"), BOOT) == 0
    assert len(capsys.readouterr().out.splitlines()) == 100


@pytest.mark.parametrize("name", ["../x", "", "a/b", "A"])
def test_a_name_that_leaves_the_folder_is_refused(node: Node, name: str) -> None:
    for ask in (node.probe, node.undo):
        with pytest.raises(AgentError, match="expected a-z"):
            ask({"id": name})


def test_a_pod_elsewhere_is_refused_before_anything_is_written(node: Node) -> None:
    step = {"primitive": "pause", "members": [{"name": "x", "pod_uid": "of-somebody"}]}
    injection = {"id": "test-1", "ttl_s": 5.0, "steps": [step], "watch": []}
    with pytest.raises(AgentError, match="unknown here"):
        node.apply(apply_request(injection=injection))
    assert node.open({}) == {"open": []}


def test_what_is_no_injection_is_refused_before_anything_is_written(node: Node) -> None:
    """It could never be ended."""
    with pytest.raises(AgentError, match="soon"):
        node.apply(apply_request(injection={"id": "test-1", "ttl_s": "soon", "steps": [], "watch": []}))
    assert node.open({}) == {"open": []}


@pytest.mark.parametrize(
    ("steps", "watch"),
    [
        ([{"primitive": "hold", "dirs": ["/etc"]}], []),
        ([{"primitive": "links", "devices": ["eth0"]}], []),
        ([{"primitive": "wipe", "folders": [{"data_dir": "/", "data_keep": []}]}], []),
        ([{"primitive": "signal", "signal": "KILL", "members": [{"name": "x", "init_pid": 1, "init_start": 0}]}], []),
        ([{"primitive": "signal", "signal": "KILL", "members": []}], []),
        ([{"primitive": "drop", "member": {"init_pid": 1}, "others": [], "direction": "in"}], []),
        ([], [{"probe": "stopped", "of": {"init_pid": 1}}]),
        ([], [{"probe": "reachable", "via": {"init_pid": 1}, "to": {}}]),
        ([], [{"probe": "counter"}]),
    ],
)
def test_what_is_about_the_node_itself_is_refused(node: Node, steps: list[Any], watch: list[Any]) -> None:
    injection = {"id": "test-1", "ttl_s": 5.0, "steps": steps, "watch": watch}
    with pytest.raises(AgentError, match="about pods only"):
        node.apply(apply_request(injection=injection))
    assert not node.state.exists()


def test_it_leaves_nothing_when_it_is_asked_to_end(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked_to_end(_node: Node, _now_ns: int) -> None:
        left(node, "test-2", ttl_s=100.0)
        raise SystemExit(0)

    left(node)
    monkeypatch.setattr(Node, "end_overdue", asked_to_end)
    monkeypatch.setattr("signal.signal", lambda _number, _handler: None)
    with pytest.raises(SystemExit):
        agent._keep(node)
    assert held(node) == []
    assert [json.loads(line)["by"] for line in (node.state / "ledger.jsonl").read_text().splitlines()] == [
        "restart",
        "leave",
    ]


def test_its_environment() -> None:
    node = from_environment({"AGENT_STATE": "/state", "AGENT_NAMESPACES": "redis, harmonyflow,"})
    assert node.state == Path("/state")
    assert node.pods == Pods(allowed=frozenset({"redis", "harmonyflow"}))
    assert from_environment({"AGENT_STATE": "/state", "AGENT_NAMESPACES": ""}).pods == Pods(allowed=frozenset())
    with pytest.raises(AgentError, match="AGENT_NAMESPACES is not set"):
        from_environment({"AGENT_STATE": "/state"})


@pytest.fixture
def called(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str], dict[str, Any]]:
    """The program as it is called in the pod: a word and a line, and its answer."""
    monkeypatch.setenv("AGENT_STATE", str(node.state))
    monkeypatch.setenv("AGENT_NAMESPACES", "redis")

    def call(word: str, line: str) -> dict[str, Any]:
        monkeypatch.setattr("sys.stdin", io.StringIO(line + "\n"))
        assert main([word]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return call


@pytest.mark.parametrize(
    ("word", "line", "words"),
    [
        ("undo", '{"id": "../x"}', "expected a-z"),
        ("undo", "{}", "KeyError"),
        ("undo", "no JSON", "Expecting value"),
        ("undo", "[]", "TypeError"),
        ("leave", "{}", "leave"),
    ],
)
def test_a_wrong_call_is_answered(
    called: Callable[[str, str], dict[str, Any]], word: str, line: str, words: str
) -> None:
    assert words in called(word, line)["error"]


def test_a_right_call_is_answered(called: Callable[[str, str], dict[str, Any]]) -> None:
    assert called("undo", '{"id": "test-1"}') == {"unknown": True}
    assert called("open", "{}") == {"open": []}


def test_a_second_call_waits_for_the_instant_of_the_first(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = node.state / "injections" / "test-1"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"at_ns": 120_000_000_000}))
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def sleep(_seconds: float) -> None:
        now[0] += 5.0
        if now[0] == 115.0:
            (folder / "applied.json").write_text('{"began_ns": 1, "applied_ns": 2}')

    monkeypatch.setattr("time.sleep", sleep)
    assert node.apply({"injection": {"id": "test-1"}}) == {"began_ns": 1, "applied_ns": 2}
