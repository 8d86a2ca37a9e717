"""What a session may rely on, and what raises no bound."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.finding import Finding
from resilience.check.guarantees import guarantees
from tests.histories import APPLIED, Op, Recorded, S, recorded, scenario


def judged(run: Recorded, folder: Path) -> Finding:
    about = scenario(slos=())
    (finding,) = guarantees(about, run.history(folder, about))
    return finding


def whole_session(run: Recorded) -> dict[str, Op]:
    """The five ops of one session, by kind: create, update, read, heartbeat, end."""
    key = run.good("session.end", phase="steady")[3].key
    return {op.kind.removeprefix("session."): op for op in run.ops if op.key == key}


def test_a_run_as_it_should_be(tmp_path: Path) -> None:
    finding = judged(recorded(), tmp_path)
    assert (finding.verdict, finding.value) == ("pass", 0)


def test_no_reads_are_nothing_to_judge(tmp_path: Path) -> None:
    run = recorded()
    run.ops = [op for op in run.ops if op.kind != "session.read"]
    assert judged(run, tmp_path).verdict == "inconclusive"


def test_reads_that_name_no_version_show_nothing(tmp_path: Path) -> None:
    run = recorded()
    for op in run.of("session.read"):
        op.version = -1
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == (
        "inconclusive",
        "no session was read by an answer that names a version",
    )


def test_reads_before_the_fault_alone_show_nothing_of_it(tmp_path: Path) -> None:
    run = recorded()
    for op in run.of("session.read"):
        if op.called > APPLIED:
            op.end("fail", 6_000, "http-503")
            op.version = -1
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "no session was read after the fault")


def test_a_read_after_the_fault_is_enough(tmp_path: Path) -> None:
    run = recorded()
    for op in [op for op in run.of("session.read") if op.called > APPLIED][1:]:
        op.end("fail", 6_000, "http-503")
        op.version = -1
    assert judged(run, tmp_path).verdict == "pass"


def test_a_stale_read(tmp_path: Path) -> None:
    run = recorded()
    read = whole_session(run)["read"]
    read.version = 1
    finding = judged(run, tmp_path)
    assert finding.verdict == "fail"
    assert [(item["what"], item["op"]) for item in finding.evidence] == [("stale read", f"locust/{read.id}")]


def told_missing(run: Recorded, kind: str) -> Op:
    """One op of a session is told that there is no such session."""
    op = whole_session(run)[kind]
    op.end("fail", 6_000, "http-404:missing")
    op.version = -1
    if kind != "read":
        run.rewrite(op.key, lambda rows: [row for row in rows if row != op.value])
        renumber(run, op.key)
    return op


def renumber(run: Recorded, key: str) -> None:
    """The versions that the answers named, as the log has them now."""
    versions = {op: version for version, op, _ in run.sessions[key].log}
    for op in run.ops:
        if op.key == key and op.value in versions:
            op.version = versions[op.value]


@pytest.mark.parametrize("kind", ["read", "heartbeat"])
def test_a_session_that_is_missing_though_it_was_written(tmp_path: Path, kind: str) -> None:
    run = recorded()
    op = told_missing(run, kind)
    finding = judged(run, tmp_path)
    assert [(item["what"], item["op"]) for item in finding.evidence] == [("missing though written", f"locust/{op.id}")]
    assert "was told that it is missing, " in finding.evidence[0]["detail"]


def test_a_session_that_was_lost_is_missing_by_right(tmp_path: Path) -> None:
    run = recorded()
    ops = whole_session(run)
    told_missing(run, "read")
    for kind in ("create", "update", "heartbeat", "end"):
        run.lose(ops[kind])
    assert judged(run, tmp_path).verdict == "pass"


def test_a_session_whose_time_ran_out_is_missing_by_right(tmp_path: Path) -> None:
    run, about = recorded(), scenario(slos=())
    key = told_missing(run, "read").key
    run.rewrite(key, lambda _: [])
    about = replace(about, stack=replace(about.stack, session_ttl_s=10))
    (finding,) = guarantees(about, run.history(tmp_path, about))
    assert finding.verdict == "pass"


def second_read(run: Recorded, version: int) -> Op:
    """One more read of a session, 50 ms after the first."""
    ops = whole_session(run)
    first = ops["read"]
    again = Op(
        "locust", 900_000, "session.read", first.key, "", first.group, first.phase, first.due + 50_000,
        first.called + 50_000, version=version,
    )  # fmt: skip
    again.end("ok", 6_000)
    run.ops.append(again)
    return again


def test_a_read_that_goes_back(tmp_path: Path) -> None:
    """Version 2 was read before its write was known to have succeeded; then version 1 is read."""
    run = recorded()
    ops = whole_session(run)
    ops["update"].version = -1  # its answer named none, so the write itself raises no bound
    again = second_read(run, version=1)
    finding = judged(run, tmp_path)
    assert [(item["what"], item["op"]) for item in finding.evidence] == [("read that goes back", f"locust/{again.id}")]


def test_a_read_that_saw_an_unknown_write_raises_no_bound(tmp_path: Path) -> None:
    run = recorded()
    whole_session(run)["update"].end("unknown", 2 * S, "timeout")
    second_read(run, version=1)
    assert judged(run, tmp_path).verdict == "pass"


@pytest.mark.parametrize("saw", [2, 3])
def test_a_write_that_was_lost_raises_no_bound(tmp_path: Path, saw: int) -> None:
    """It is booked as lost; that a later read does not know it is no second finding."""
    run = recorded()
    ops = whole_session(run)
    ops["read"].version = saw
    run.lose(ops["update"])
    second_read(run, version=1)
    assert judged(run, tmp_path).verdict == "pass"


def test_a_write_after_the_end(tmp_path: Path) -> None:
    run = recorded()
    ops = whole_session(run)
    late = ops["heartbeat"]
    late.called, late.returned = late.called + 5 * S, (late.returned or 0) + 5 * S
    finding = judged(run, tmp_path)
    assert [item["what"] for item in finding.evidence] == ["write after the end"]
    assert finding.where.group == f"shard {late.group}"
