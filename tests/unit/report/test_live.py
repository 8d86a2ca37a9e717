"""What can be followed while a run goes on."""

import io
from dataclasses import replace

import pytest

from resilience.report.live import LiveBoard, LiveState, LiveView, changes, summary
from resilience.report.terminal import console_for

STATE = LiveState(
    scenario="redis-failover",
    phase="steady",
    phase_began_s=105.0,
    phase_length_s=20.0,
    run_began_s=100.0,
    run_length_s=80.0,
    rate_ops_per_s=203.4,
    error_ratio=0.0125,
    lag_ms=1.6,
    roles={"redis-cluster-0": "primary", "redis-cluster-3": "replica"},
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (STATE, []),
        (replace(STATE, phase="fault"), ["phase    steady → fault"]),
        (replace(STATE, injection="power-off node-1"), ["injected power-off node-1"]),
        (
            replace(STATE, roles={**STATE.roles, "redis-cluster-3": "primary"}),
            ["role     redis-cluster-3: replica → primary"],
        ),
        (replace(STATE, roles={**STATE.roles, "redis-cluster-4": "replica"}), []),  # first seen: no change
        (replace(STATE, notes=("stack up",)), ["note     stack up"]),
        (replace(STATE, rate_ops_per_s=1.0), []),
    ],
    ids=["nothing", "phase", "injection", "role", "first seen", "note", "rate"],
)
def test_changes_are_told(after: LiveState, lines: list[str]):
    assert changes(STATE, after) == lines


def test_healing_is_told():
    assert changes(replace(STATE, injection="x"), STATE) == ["healed   x"]


def test_a_summary_has_phase_elapsed_remaining_rate_errors_and_lag():
    assert summary(STATE, 112.0) == "steady 7 of 20 s, 68.0 s left  203 ops/s  errors 1.25%  lag 2 ms"
    assert summary(replace(STATE, injection="x"), 190.0).endswith(
        ", ending  203 ops/s  errors 1.25%  lag 2 ms  injected: x"
    )
    assert summary(LiveState(scenario="s", run_began_s=0.0), 3.0) == "starting 3.0 s"


def test_plain_lines_come_every_few_seconds_and_at_each_change():
    stream, clock, board = io.StringIO(), Clock(106.0), LiveBoard(STATE)
    view = LiveView(console_for(stream), board.read, clock, moving=False)
    for now_s in (106.0, 107.0, 110.9, 111.0, 112.0):
        clock.now_s = now_s
        view.tick()
    board.change(phase="fault", phase_began_s=112.0)
    board.role("redis-cluster-3", "primary")
    board.note("\x1b[2Jwiped")
    view.tick()
    lines = stream.getvalue().splitlines()
    assert [line[:12] for line in lines] == ["    6.0 s  s", "   11.0 s  s", *["   12.0 s  " + c for c in "prn"]]
    assert lines[-1].endswith("note     \\x1b[2Jwiped")


def test_a_panel_is_drawn_in_place_and_leaves_the_changes():
    stream, clock, board = Terminal(), Clock(106.0), LiveBoard(replace(STATE, injection="[b]power-off\x07"))
    view = LiveView(console_for(stream), board.read, clock, moving=True)
    view.tick()
    with view:
        board.role("redis-cluster-0", "unreachable")
    text = stream.getvalue()
    for wanted in ("redis-failover", "203 ops/s", "[b]power-off\\x07", "primary → unreachable"):
        assert wanted in text
    assert "\x07" not in text
