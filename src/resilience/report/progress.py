"""Steps of a set-up as a person can follow them: a spinner on a terminal, plain lines anywhere else."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from resilience.report.terminal import can_move, plain
from resilience.report.text import took_text

QUIET_S = 2.0  # a step that takes less needs no more than its name
LINE_EVERY_S = 10.0
_LOOK_EVERY_S = 0.2
_JOIN_TIMEOUT_S = 5.0


class Step:
    """One step that is being done; `say` tells how far it is."""

    def __init__(self, what: str) -> None:
        """``what`` says what is being done, e.g. ``building the stack image``."""
        self.what = what
        self._detail = ""

    def say(self, text: str) -> None:
        """Replaces what is shown behind the step, e.g. ``unpacking, 210 of 340 packages``."""
        self._detail = text

    def text(self, elapsed_s: float) -> Text:
        """The step with how far it is, and its elapsed time if it is worth naming."""
        parts = [plain(self.what)]
        if self._detail:
            parts.append(plain(self._detail, "dim"))
        if elapsed_s >= QUIET_S:
            parts.append(Text(took_text(elapsed_s), style="dim"))
        return Text("  ").join(parts)


class Steps:
    """Announces steps one after the other."""

    def __init__(
        self, console: Console, now_s: Callable[[], float] = time.monotonic, *, moving: bool | None = None
    ) -> None:
        """``moving``: whether a spinner may be drawn; None: as `can_move` says for this process."""
        self._console = console
        self._now_s = now_s
        self._moving = can_move(console, os.environ) if moving is None else moving

    def say(self, text: str) -> None:
        """Prints a line that belongs to no step."""
        self._console.print(plain(text), soft_wrap=True)

    @contextmanager
    def step(self, what: str) -> Iterator[Step]:
        """Shows a step while its body runs, and afterwards one line that says how it ended and what it took."""
        step, began_s = Step(what), self._now_s()
        if not self._moving:
            self._console.print(plain(f"{what} …"), soft_wrap=True)
        try:
            with self._shown(step, began_s):
                yield step
        except BaseException:  # a line about the step, whatever ended it; the error goes on as it came
            self._end(step, began_s, "✗", "red")
            raise
        self._end(step, began_s, "✓", "green")

    def _end(self, step: Step, began_s: float, mark: str, colour: str) -> None:
        elapsed_s = self._now_s() - began_s
        if not self._moving and elapsed_s < QUIET_S and mark == "✓":
            return
        self._console.print(Text.assemble((mark, colour), " ", step.text(elapsed_s)), soft_wrap=True)

    @contextmanager
    def _shown(self, step: Step, began_s: float) -> Iterator[None]:
        ended = threading.Event()
        show = self._spin if self._moving else self._tell
        thread = threading.Thread(target=show, args=(step, began_s, ended), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_JOIN_TIMEOUT_S)

    def _spin(self, step: Step, began_s: float, ended: threading.Event) -> None:
        with Status(step.text(0.0), console=self._console) as status:
            while not ended.wait(_LOOK_EVERY_S):
                status.update(step.text(self._now_s() - began_s))

    def _tell(self, step: Step, began_s: float, ended: threading.Event) -> None:
        while not ended.wait(LINE_EVERY_S):
            self._console.print(Text.assemble("  ", step.text(self._now_s() - began_s)), soft_wrap=True)
