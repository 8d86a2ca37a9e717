"""The recorder: the record, the counts and the metrics of an op agree."""

import pytest

from resilience.history.record import Dropped, Invoked, Returned
from tests.unit.loadgen.generators import Rig

LABELS = {"client": "locust", "op": "session.update", "phase": "steady"}


def test_an_op_is_on_record_before_it_is_sent():
    rig = Rig()
    op = rig.send(due=990_000)
    assert rig.sink.lines == [Invoked(op.id, "session.update", "s-1", "v", 2, "steady", 990_000, 1_000_000)]
    assert rig.recorder.inflight == 1


def test_latency_counts_from_the_intended_start():
    rig = Rig()
    op = rig.send(due=600_000)  # sent 0.4 s late
    rig.clock.us += 50_000
    rig.recorder.returned(op, "ok", version=3)
    assert rig.sink.lines[-1] == Returned(op.id, "ok", 1_050_000, 3)
    assert rig.sample("load_op_duration_seconds_bucket", **LABELS, le="0.1") == 0
    assert rig.sample("load_op_duration_seconds_bucket", **LABELS, le="0.5") == 1
    assert rig.tally.second()["lag_ms_p99"] == pytest.approx(400)


@pytest.mark.parametrize("outcome", ["fail", "unknown"])
def test_what_is_not_ok_counts_as_endless(outcome):
    rig = Rig()
    rig.recorder.returned(rig.send(due=1_000_000), outcome, error="refused")
    assert rig.sample("load_op_duration_seconds_bucket", **LABELS, le="0.5") == 0
    assert rig.sample("load_op_duration_seconds_bucket", **LABELS, le="+Inf") == 1
    assert rig.sample("load_ops_total", **LABELS, outcome=outcome) == 1


def test_a_second_end_is_ignored():
    rig = Rig()
    op = rig.send(due=1_000_000)
    rig.recorder.returned(op, "unknown", error="timeout")
    rig.recorder.returned(op, "ok")
    assert [line.outcome for line in rig.sink.lines if isinstance(line, Returned)] == ["unknown"]
    assert rig.tally.total("ok") == 0


def test_open_ops_are_booked_as_unfinished():
    rig = Rig()
    done, open_ = rig.send(due=1_000_000), rig.send(due=1_000_001)
    rig.recorder.returned(done, "ok")
    rig.recorder.book_unfinished()
    last = rig.sink.lines[-1]
    assert isinstance(last, Returned)
    assert (last.id, last.outcome, last.error) == (open_.id, "unknown", "unfinished")
    assert rig.recorder.inflight == 0
    assert rig.sample("load_unfinished_total") == 1
    assert rig.tally.unfinished_total == 1


def test_a_dropped_arrival_is_on_record():
    rig = Rig()
    rig.recorder.dropped("session", "fault", 5)
    assert rig.sink.lines == [Dropped("session", "fault", 5)]
    assert rig.sample("load_dropped_total") == 1


def test_all_labels_are_there_at_zero():
    rig = Rig()
    for phase in ("warmup", "steady", "fault", "recovery"):
        for outcome in ("ok", "fail", "unknown"):
            labels = {"client": "locust", "op": "collaboration.join", "phase": phase, "outcome": outcome}
            assert rig.sample("load_ops_total", **labels) == 0
        for outcome in ("expected", "delivered"):
            assert rig.sample("load_deliveries_total", phase=phase, outcome=outcome) == 0


def test_the_listener_hears_of_each_end():
    rig = Rig()
    heard = []
    rig.recorder.on_end = lambda op, outcome, latency_s, error: heard.append((op.id, outcome, latency_s, error))
    op = rig.send(due=900_000)
    rig.recorder.returned(op, "fail", error="http-503")
    assert heard == [(op.id, "fail", 0.1, "http-503")]
