"""What a person can follow while a run goes on: one panel on a terminal, plain lines anywhere else.

The runner changes a `LiveBoard`; a `LiveView` looks at it a few times a second and shows it.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resilience.report.terminal import can_move, plain
from resilience.report.text import took_text

LOOK_EVERY_S = 0.25
LINE_EVERY_S = 5.0  # between plain lines, when nothing changes
_JOIN_TIMEOUT_S = 5.0
_ROLE_STYLE = {"primary": "bold", "unreachable": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """Where a run is. Instants are seconds on the clock that the view was given; None: not known yet."""

    scenario: str
    phase: str = "starting"
    phase_began_s: float = 0.0
    phase_length_s: float | None = None  # None: it ends when it is done
    run_began_s: float = 0.0
    run_length_s: float | None = None  # the sum of the declared phases
    rate_ops_per_s: float | None = None
    error_ratio: float | None = None
    lag_ms: float | None = None  # of the generators behind their schedule
    roles: Mapping[str, str] = field(default_factory=dict)  # of each member, as last seen
    injection: str = ""  # what is broken now, "" while nothing is
    notes: tuple[str, ...] = ()  # everything else worth a line, oldest first


class LiveBoard:
    """The state that the runner's threads change and a view reads."""

    def __init__(self, state: LiveState) -> None:
        """``state`` is what is shown first."""
        self._state = state
        self._lock = threading.Lock()

    def read(self) -> LiveState:
        """The state at this moment."""
        return self._state

    def change(self, **fields: Any) -> None:
        """Replaces fields of the state, all in one step."""
        with self._lock:
            self._state = replace(self._state, **fields)

    def role(self, member: str, role: str) -> None:
        """Says which role a member has now."""
        with self._lock:
            self._state = replace(self._state, roles={**self._state.roles, member: role})

    def note(self, text: str) -> None:
        """Adds a line."""
        with self._lock:
            self._state = replace(self._state, notes=(*self._state.notes, text))


class LiveView:
    """Shows a board until it is left; the terminal is as before afterwards, and every change has left a line."""

    def __init__(
        self, console: Console, read: Callable[[], LiveState], now_s: Callable[[], float], *, moving: bool
    ) -> None:
        """``moving``: whether a panel is redrawn in place, see `can_move`."""
        self._console = console
        self._read = read
        self._now_s = now_s
        self._live = Live(console=console, auto_refresh=False, transient=True) if moving else None
        self._shown: LiveState | None = None
        self._last_line_s = float("-inf")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="live-view", daemon=True)

    def tick(self) -> None:
        """Shows what changed since the last look."""
        state, now_s = self._read(), self._now_s()
        lines = changes(self._shown, state) if self._shown else []
        self._shown = state
        for line in lines:
            self._line(state, now_s, line)
        if self._live:
            self._live.update(panel(state, now_s), refresh=True)
        elif now_s - self._last_line_s >= LINE_EVERY_S:
            self._line(state, now_s, summary(state, now_s))

    def _line(self, state: LiveState, now_s: float, text: str) -> None:
        at = Text(f"{max(0.0, now_s - state.run_began_s):7.1f} s  ", style="dim")
        self._console.print(Text.assemble(at, plain(text)), soft_wrap=True)
        self._last_line_s = now_s

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self.tick()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        self.tick()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_JOIN_TIMEOUT_S)
        self.tick()
        if self._live:
            self._live.stop()


def live_view(console: Console, read: Callable[[], LiveState], now_s: Callable[[], float]) -> LiveView:
    """The view that fits this console and this process's environment."""
    return LiveView(console, read, now_s, moving=can_move(console, os.environ))


def changes(before: LiveState, after: LiveState) -> list[str]:
    """What a person should be told of between two looks, one line each."""
    lines = [f"phase    {before.phase} → {after.phase}"] if before.phase != after.phase else []
    if after.injection != before.injection:
        lines.append(f"injected {after.injection}" if after.injection else f"healed   {before.injection}")
    for member, role in sorted(after.roles.items()):
        was = before.roles.get(member)
        if was is not None and was != role:
            lines.append(f"role     {member}: {was} → {role}")
    return lines + [f"note     {note}" for note in after.notes[len(before.notes) :]]


def summary(state: LiveState, now_s: float) -> str:
    """The state on one line."""
    parts = [f"{state.phase} {_progress(state, now_s)}", *_load_parts(state)]
    return "  ".join([*parts, f"injected: {state.injection}"] if state.injection else parts)


def panel(state: LiveState, now_s: float) -> RenderableType:
    """The state as a panel of at most a dozen lines."""
    rows: list[RenderableType] = [_phase_row(state, now_s), _load_row(state)]
    if state.roles:
        rows.append(_roles_row(state))
    if state.injection:
        rows.append(Text.assemble((" injected ", "bold reverse red"), " ", plain(state.injection)))
    return Panel(Group(*rows), title=plain(state.scenario, "bold"), title_align="left", border_style="dim")


def _phase_row(state: LiveState, now_s: float) -> RenderableType:
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(width=10)
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    row.add_row(plain(state.phase, "bold"), _bar(state, now_s), Text(_progress(state, now_s)))
    return row


def _bar(state: LiveState, now_s: float) -> ProgressBar:
    if state.phase_length_s is None:
        return ProgressBar(pulse=True, animation_time=now_s)
    return ProgressBar(total=max(state.phase_length_s, 0.001), completed=max(0.0, now_s - state.phase_began_s))


def _progress(state: LiveState, now_s: float) -> str:
    elapsed_s = max(0.0, now_s - state.phase_began_s)
    if state.phase_length_s is None:
        return took_text(elapsed_s)
    return f"{elapsed_s:.0f} of {state.phase_length_s:.0f} s{_remaining(state, now_s)}"


def _remaining(state: LiveState, now_s: float) -> str:
    if state.run_length_s is None:
        return ""
    left_s = state.run_began_s + state.run_length_s - now_s
    return f", {took_text(left_s)} left" if left_s > 0 else ", ending"


def _load_parts(state: LiveState) -> list[str]:
    parts = []
    if state.rate_ops_per_s is not None:
        parts.append(f"{state.rate_ops_per_s:.0f} ops/s")
    if state.error_ratio is not None:
        parts.append(f"errors {state.error_ratio:.2%}")
    if state.lag_ms is not None:
        parts.append(f"lag {state.lag_ms:.0f} ms")
    return parts


def _load_row(state: LiveState) -> Text:
    errors = "red" if (state.error_ratio or 0.0) > 0.01 else ""
    return Text("   ").join(
        Text(part, style=errors if part.startswith("errors") else "") for part in _load_parts(state)
    ) or Text("waiting for the load", style="dim")


def _roles_row(state: LiveState) -> Text:
    return Text("   ").join(
        Text.assemble(plain(member, "dim"), " ", plain(role, _ROLE_STYLE.get(role, "")))
        for member, role in sorted(state.roles.items())
    )
