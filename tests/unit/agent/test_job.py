"""A job on disk, with holds as its only steps: nothing of the machine is touched."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.job import Job
from resilience.agent.probe import PROBES, probe_from_json
from resilience.agent.process import look_up
from resilience.agent.step import PRIMITIVES, step_from_json
from resilience.fault.ledger import Entry, Ledger
from resilience.spec.fault import Injection, Kill, Target
from tests.full_disk import files_of_at_most

GONE = {
    "name": "nobody",
    "address": "198.18.0.9",
    "init_pid": 1,
    "init_start": -1,
    "server_pid": None,
    "data_dir": "/nonexistent",
    "data_keep": [],
}


PLANNED = Entry(
    at_us=1,
    injection="test-1",
    state="planned",
    spec=Injection(
        id="test-1", fault=Kill(restart=False), target=Target(component="redis"), members=(), nodes=(), ttl_s=5,
        steps=({"primitive": "hold", "dirs": ["elsewhere"]},), watch=(),
    ),
)  # fmt: skip


def no_room(*_what: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def request(folder: Path, **injection: Any) -> dict[str, Any]:
    private = folder / "agent"
    private.mkdir(exist_ok=True)
    whole = {"id": "test-1", "ttl_s": 5, "steps": [{"primitive": "hold", "dirs": [str(folder / "hold")]}], "watch": []}
    return {"injection": whole | injection, "dir": str(private), "ledger": str(folder / "ledger.jsonl"), "base_ns": 0}


def test_applied_and_undone(tmp_path: Path) -> None:
    job = Job(request(tmp_path))
    done = job.apply(0)
    assert done["began_ns"] <= done["applied_ns"]
    assert (tmp_path / "hold" / "test-1").exists()
    undone = job.undo("request", 0)
    assert not (tmp_path / "hold" / "test-1").exists()
    assert undone["evidence"] == [{"what": "restarts held back", "expected": "none", "observed": "none", "ok": True}]
    assert not (tmp_path / "ledger.jsonl").exists()  # whoever asked for it writes it down


def test_a_second_undo_answers_what_the_first_found(tmp_path: Path) -> None:
    Job(request(tmp_path)).apply(0)
    first = Job(request(tmp_path)).undo("request", 0)
    assert Job(request(tmp_path)).undo("ttl", 0) == first


def test_an_end_by_the_time_to_live_is_booked(tmp_path: Path) -> None:
    job = Job(request(tmp_path))
    job.apply(0)
    undone = job.undo("ttl", 0)
    line = json.loads((tmp_path / "ledger.jsonl").read_text())
    assert line == {
        "at_us": undone["healed_ns"] // 1_000, "injection": "test-1", "state": "healed", "by": "ttl",
        "began_us": undone["began_ns"] // 1_000,
    }  # fmt: skip


def test_undone_without_its_maker(tmp_path: Path) -> None:
    Job(request(tmp_path)).apply(0)
    Job(request(tmp_path)).undo("request", 0)
    assert not (tmp_path / "hold" / "test-1").exists()


def test_what_was_undone_first_is_never_applied(tmp_path: Path) -> None:
    Job(request(tmp_path)).undo("request", 0)
    with pytest.raises(AgentError, match="before"):
        Job(request(tmp_path)).apply(0)
    assert not (tmp_path / "hold" / "test-1").exists()


def test_a_step_that_fails_takes_the_others_with_it(tmp_path: Path) -> None:
    hold = {"primitive": "hold", "dirs": [str(tmp_path / "hold")]}
    broken = {"primitive": "signal", "signal": "KILL", "members": [GONE]}
    job = Job(request(tmp_path, steps=[hold, broken]))
    with pytest.raises(AgentError, match="has been undone"):
        job.apply(0)
    assert not (tmp_path / "hold" / "test-1").exists()


def prelude(folder: Path, **changes: Any) -> dict[str, Any]:
    whole = {"steps": [{"primitive": "hold", "dirs": [str(folder / "before")]}], "watch": [], "for_s": 0.05}
    return whole | changes


def test_a_prelude_lasts_and_ends_with_the_injections_own_steps(tmp_path: Path) -> None:
    job = Job(request(tmp_path, prelude=prelude(tmp_path)))
    done = job.apply(0)
    assert done["applied_ns"] - done["began_ns"] >= 0.05e9
    assert not (tmp_path / "before" / "test-1").exists()
    assert (tmp_path / "before").exists(), "it was there"
    assert (tmp_path / "hold" / "test-1").exists()
    assert [item["ok"] for item in job.undo("request", 0)["evidence"]] == [True, True]


def test_a_prelude_that_lasts_is_looked_at_until_it_ends_before_all_else(tmp_path: Path) -> None:
    """Whoever is let go again at the end must not find it any more."""
    before = tmp_path / "before" / "test-1"
    found: list[bool] = []

    class Last:
        def do(self) -> None:
            found.append(before.exists())

        def undo(self) -> None:
            found.append(before.exists())

        def undone(self) -> list[Evidence]:
            return []

    lasting = prelude(tmp_path, prelude={"ends": "healed"}, watch=[{"probe": "stopped", "of": GONE}])
    job = Job(request(tmp_path, prelude=lasting), step_of=lambda _id, _step: Last())
    job.apply(0)
    assert before.exists()
    while_it_lasted, now = job.in_effect()
    assert while_it_lasted["what"] == f"during the prelude: {now['what']}"
    job.undo("request", 0)
    assert found == [True, False]


def test_a_prelude_without_effect_is_no_proof(tmp_path: Path) -> None:
    """Its probe sees nothing; that is remembered when the rest is in effect."""
    nobody = prelude(tmp_path, watch=[{"probe": "stopped", "of": GONE}])
    job = Job(request(tmp_path, prelude=nobody))
    job.apply(0)
    seen = job.in_effect()
    assert [item["ok"] for item in seen] == [False]
    assert Job(request(tmp_path, prelude=prelude(tmp_path))).in_effect() == []


def test_a_prelude_ends_where_the_step_after_it_fails(tmp_path: Path) -> None:
    broken = {"primitive": "signal", "signal": "KILL", "members": [GONE]}
    job = Job(request(tmp_path, prelude=prelude(tmp_path), steps=[broken]))
    with pytest.raises(AgentError, match="has been undone"):
        job.apply(0)
    assert not (tmp_path / "before" / "test-1").exists()


def test_a_prelude_that_was_broken_off_is_undone_from_the_injection_alone(tmp_path: Path) -> None:
    """The agent was killed in the middle of it: nothing but the file is there."""
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "test-1").touch()
    Job(request(tmp_path, prelude=prelude(tmp_path))).undo("request", 0)
    assert not (tmp_path / "before" / "test-1").exists()


def test_probes_of_what_is_gone_do_not_hold(tmp_path: Path) -> None:
    to = {"via": GONE, "to": GONE, "port": 1, "say": "", "arrives": False}
    watch = [{"probe": name, "of": GONE, "expect": "dead", "in": GONE, **to} for name in PROBES]
    job = Job(request(tmp_path, steps=[], watch=watch))
    job.apply(0)
    seen = job.in_effect()
    assert len(seen) >= len(PROBES)
    assert not any(item["ok"] for item in seen)
    job.close()


def test_data_is_emptied_but_for_what_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "appendonlydir").mkdir(parents=True)
    for name in ("nodes.conf", "dump.rdb", "appendonlydir/base.rdb"):
        (data / name).write_text("before")
    folder = {"data_dir": str(data), "data_keep": ["nodes.conf"]}
    watch = [{"probe": "emptied", "of": {"name": "redis-0", **folder}}]
    job = Job(request(tmp_path, steps=[{"primitive": "wipe", "folders": [folder]}], watch=watch))
    job.apply(0)
    assert [path.name for path in data.iterdir()] == ["nodes.conf"]
    assert [(item["observed"], item["ok"]) for item in job.in_effect()] == [("0 of 2", True)]
    (data / "dump.rdb").write_text("of the new server")
    assert job.in_effect()[0]["ok"]


@pytest.mark.parametrize(("files", "observed"), [(["dump.rdb"], "1 of 1"), ([], "0 of 0")])
def test_data_that_stayed_or_was_never_there_proves_nothing(tmp_path: Path, files: list[str], observed: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in files:
        (data / name).write_text("before")
    watch = [{"probe": "emptied", "of": {"name": "redis-0", "data_dir": str(data), "data_keep": []}}]
    job = Job(request(tmp_path, steps=[], watch=watch))
    job.apply(0)
    assert [(item["observed"], item["ok"]) for item in job.in_effect()] == [(observed, False)]


@pytest.mark.parametrize(
    "bad",
    [{"primitive": "nothing"}, {}, {"primitive": "hold"}, {"primitive": "signal", "signal": "HUP", "members": []}],
)
def test_steps_that_are_none(bad: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="primitive"):
        step_from_json("test-1", bad)


@pytest.mark.parametrize("bad", [{"probe": "nothing"}, {}, {"probe": "silent"}])
def test_probes_that_are_none(bad: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="probe"):
        probe_from_json("test-1", bad)


def test_every_primitive_is_named() -> None:
    assert set(PRIMITIVES) == {"signal", "pause", "hold", "withhold", "release", "wipe", "links", "drop"}


def test_a_process_is_known_by_its_start() -> None:
    init = look_up(1)
    assert init is not None
    assert init.start >= 0
    assert look_up(2**22 + 1) is None


class Looking:
    """A probe that only tells which address it was made to look at."""

    def __init__(self, _injection_id: str, data: Mapping[str, Any]) -> None:
        self.to = data["to"]["address"]
        self.closed = False

    def prepare(self) -> None:
        """Nothing is to be looked at before."""

    def in_effect(self) -> list[Evidence]:
        return [evidence("looked at", self.to, self.to)]

    def healed(self) -> list[Evidence]:
        return self.in_effect()

    def close(self) -> None:
        self.closed = True


def test_what_has_moved_is_looked_for_where_it_is_by_then(tmp_path: Path) -> None:
    to = {"probe": "reachable", "to": {"name": "redis-0", "address": "10.244.1.5"}}
    other = {"probe": "reachable", "to": {"name": "redis-1", "address": "10.244.2.5"}}
    asked = request(tmp_path, steps=[], watch=[to, other])
    job = Job(asked, probe_of=Looking)
    job.apply(0)
    assert [item["observed"] for item in job.in_effect()] == ["10.244.1.5", "10.244.2.5"]
    undone = job.undo("request", 0, {"redis-0": "10.244.1.9", "session-0": "10.244.1.7"})
    assert [item["observed"] for item in undone["evidence"]] == ["10.244.1.9", "10.244.2.5"]


def test_without_its_daemon_too(tmp_path: Path) -> None:
    to = {"probe": "reachable", "to": {"name": "redis-0", "address": "10.244.1.5"}}
    asked = request(tmp_path, steps=[], watch=[to])
    job = Job({**asked, "addresses": {"redis-0": "10.244.1.9"}}, probe_of=Looking)
    assert [item["observed"] for item in job.undo("request", 0)["evidence"]] == ["10.244.1.9"]


class Stubborn:
    """A step that is done only half, and that cannot be undone at first."""

    def __init__(self, undoings_that_fail: int) -> None:
        self.fails = undoings_that_fail
        self.undone_times = 0

    def do(self) -> None:
        raise RuntimeError("can't start new thread")

    def undo(self) -> None:
        if self.fails:
            self.fails -= 1
            raise ValueError("no JSON")
        self.undone_times += 1

    def undone(self) -> list[Evidence]:
        return [evidence("undone", "1", str(self.undone_times))]


class Slow:
    """A step that takes a while to be undone, by the test's clock, and fails as often first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
        self.fails, self.now_ns = fails, 1_000_000_000
        monkeypatch.setattr("time.monotonic_ns", lambda: self.now_ns)

    def do(self) -> None:
        """Nothing is to be done."""

    def undo(self) -> None:
        self.now_ns += 18_000_000_000
        if self.fails:
            self.fails -= 1
            raise RuntimeError("the machine is busy")

    def undone(self) -> list[Evidence]:
        return []


class Ending:
    """A step that comes to its end by itself, at its third look; or that cannot be looked at before."""

    def __init__(self, *, ends: bool = True, seen: bool = True) -> None:
        self.ends, self.seen = ends, seen
        self.looks = 0

    def do(self) -> None:
        """Nothing is to be done."""

    def undo(self) -> None:
        """Nothing can be undone."""

    def undone(self) -> list[Evidence]:
        self.looks += 1
        ended = self.ends and self.looks >= 3
        if not ended and not self.seen:
            raise AgentError(f"look {self.looks}: the API server is away")
        return [evidence("rollout", "complete", "complete" if ended else f"look {self.looks}: 1 ready")]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each wait, which takes no time but of the clock's."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr("time.monotonic", lambda: sum(waits))
    return waits


@pytest.mark.parametrize("seen", [True, False])
def test_what_a_step_has_left_to_its_own_end_is_waited_for(tmp_path: Path, slept: list[float], seen: bool) -> None:
    step = Ending(seen=seen)
    undone = Job(request(tmp_path), step_of=lambda _id, _data: step).undo("request", 5.0)
    assert undone["evidence"] == [evidence("rollout", "complete", "complete")]
    assert step.looks == 3
    assert sum(slept) == pytest.approx(0.4)


@pytest.mark.parametrize(("seen", "reason"), [(True, "1 ready"), (False, "the API server is away")])
def test_what_never_comes_to_its_end_fails_in_time_with_the_last_reason(
    tmp_path: Path, slept: list[float], seen: bool, reason: str
) -> None:
    step = Ending(ends=False, seen=seen)
    undone = Job(request(tmp_path), step_of=lambda _id, _data: step).undo("request", 1.0)
    assert [(item["observed"], item["ok"]) for item in undone["evidence"]] == [(f"look {step.looks}: {reason}", False)]
    assert 1.0 <= sum(slept) < 1.5


@pytest.mark.parametrize("fails", [0, 2])
def test_an_end_that_takes_a_while_says_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """What an earlier try has undone is not in effect any more, whoever tries again, and in whichever process."""
    step = Slow(monkeypatch, fails)
    for _ in range(fails):
        with pytest.raises(AgentError, match="busy"):
            Job(request(tmp_path), step_of=lambda _id, _data: step).end("ttl")
    undone = Job(request(tmp_path), step_of=lambda _id, _data: step).end("ttl")
    assert (undone["began_ns"], undone["healed_ns"]) == (1_000_000_000, 19_000_000_000 + fails * 18_000_000_000)
    booked = json.loads((tmp_path / "ledger.jsonl").read_text())
    assert (booked["began_us"], booked["at_us"]) == (1_000_000, undone["healed_ns"] // 1_000)


def test_a_full_disk_keeps_nothing_from_being_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Job(request(tmp_path)).apply(0)
    job = Job(request(tmp_path))

    monkeypatch.setattr(job, "_write", no_room)
    with pytest.raises(OSError, match="No space left"):
        job.end("request")
    assert not (tmp_path / "hold" / "test-1").exists()


def test_what_could_not_be_written_down_is_undone_once_and_told_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Slow(monkeypatch, 0)
    job = Job(request(tmp_path), step_of=lambda _id, _data: step)
    with monkeypatch.context() as full:
        full.setattr(job, "_write", no_room)
        with pytest.raises(OSError, match="No space left"):
            job.end("ttl")
        assert job.in_effect() == [evidence("injection test-1", "in effect", "ended by ttl")]
    record = job.end("request")
    assert record == {"began_ns": 1_000_000_000, "healed_ns": 19_000_000_000, "by": "ttl"}
    assert json.loads((tmp_path / "ledger.jsonl").read_text())["at_us"] == 19_000_000


def test_a_ledger_that_takes_a_part_of_a_line_keeps_nothing_from_being_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays open there, and whoever ends it is told how it ended."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(PLANNED)
    job = Job(request(tmp_path))
    job.apply(0)
    with files_of_at_most(ledger.path.stat().st_size + 20):
        undone = job.undo("ttl", 0)
    assert not (tmp_path / "hold" / "test-1").exists()
    assert [item["ok"] for item in undone["evidence"]] == [True]
    assert "File too large" in capsys.readouterr().err
    assert [injection.id for injection in ledger.open_injections()] == ["test-1"]
    assert Job(request(tmp_path)).undo("request", 0) == undone
    ledger.append(Entry(at_us=undone["healed_ns"] // 1_000, injection="test-1", state="healed", by=undone["by"]))
    assert ledger.open_injections() == ()


def test_a_line_that_is_written_in_parts_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("os.write", lambda handle, line: write(handle, line[:7]))
    job = Job(request(tmp_path))
    job.apply(0)
    job.end("ttl")
    assert json.loads((tmp_path / "ledger.jsonl").read_text())["by"] == "ttl"


@pytest.mark.parametrize(("fails", "left"), [(0, False), (1, True)])
def test_what_a_failed_apply_could_not_undo_is_known(tmp_path: Path, fails: int, left: bool) -> None:
    step = Stubborn(fails)
    job = Job(request(tmp_path), step_of=lambda _id, _data: step)
    with pytest.raises(AgentError, match="can't start new thread"):
        job.apply(0)
    assert job.left is left
    job.undo("ttl", 0)
    assert step.undone_times == (1 if left else 2)


def test_what_cannot_be_written_down_as_applied_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(request(tmp_path))

    monkeypatch.setattr(job, "_write", no_room)
    with pytest.raises(OSError, match="No space left"):
        job.apply(0)
    assert job.left
    assert (tmp_path / "hold" / "test-1").exists()
