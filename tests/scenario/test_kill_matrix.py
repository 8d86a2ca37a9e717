"""``kill -9`` of any one process of a run, in any phase: nothing is left, and the verdict says what it is worth.

``make test-kill`` plays all cells, ``make test`` one of each group, by a seed that the report's header names and that
``KILL_SEED`` asks for.
"""

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from resilience.history.phase import STOP
from tests.scenario.conftest import Ended, Watched, events_in, wait_for
from tests.scenario.kill_matrix import CELLS, LASTS_S, NOBODY, SEED, Cell, chosen, sample

pytestmark = pytest.mark.scenario

BEGIN_TIMEOUT_S = 60.0
UNSURE = "inconclusive"
VERDICT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}


def cells() -> list[Any]:
    """All cells; those that are not in the sample have the mark ``kill``."""
    sampled = {cell.name for cell in (NOBODY, *sample(SEED))}
    return [
        pytest.param(cell, id=cell.name, marks=() if cell.name in sampled else pytest.mark.kill)
        for cell in (NOBODY, *CELLS)
    ]


@pytest.mark.parametrize("cell", cells())
def test_a_kill_leaves_nothing_and_a_verdict_that_says_so(watched: Watched, cell: Cell) -> None:
    chance = random.Random(f"{SEED} {cell.name}")
    process = watched.start()
    moment = cell.phase if cell is NOBODY else killed(watched, process, cell, chance)
    ended = watched.wait(process)
    watched.nothing_is_left()
    if cell.verdicts:
        assert_readable(watched, ended)
    said = told(cell, ended, moment)
    print(said)  # noqa: T201  a row of the table
    assert ended.code in cell.codes, said + ended.output[-3000:]
    if not cell.verdicts:
        assert ended.directory is None, said
        assert cell.victim.name == "supervisor" or "before the run recorded anything" in ended.output
        return
    assert ended.verdict["verdict"] in cell.verdicts, said
    if ended.verdict["verdict"] == "pass":
        assert_nothing_is_missing(cell, ended)
    else:
        assert_says_so(cell, ended)
    if cell.victim.group == "experiment" and cell.phase != "steady":
        assert_healed(ended)


def killed(watched: Watched, process: "subprocess.Popen[str]", cell: Cell, chance: random.Random) -> str:
    """Kills the victim at some moment of the phase; says when, for people."""
    wait_for(f"{cell.phase} has begun", lambda: begun(watched, cell), BEGIN_TIMEOUT_S)
    wait_for(f"the {cell.victim.name} is there", lambda: bool(chosen(cell, watched.traces.look(), chance)), 20)
    after_s = chance.uniform(0, LASTS_S[cell.phase])
    time.sleep(after_s)
    victim = chosen(cell, watched.traces.look(), chance)
    assert victim, f"the {cell.victim.name} has ended {after_s:.2f} s into {cell.phase}"
    assert process.poll() is None
    os.kill(victim, signal.SIGKILL)
    return f"{after_s:.2f} s into {cell.phase}"


def begun(watched: Watched, cell: Cell) -> bool:
    """Whether the phase has begun; `fault` with the injection, `recovery` with the healing."""
    directory = watched.directory()
    if cell.phase == "coming up" or directory is None:
        return cell.phase == "coming up" and len(watched.traces.look()) > 2
    sign = {"audit": "load-stopped", "fault": "injected", "recovery": "healing"}.get(cell.phase)
    if sign:
        return bool(events_in(directory, sign))
    announced = [data["phase"] for _, data in events_in(directory, "phase-announced")]
    return cell.phase == "stack" or {"drain": STOP}.get(cell.phase, cell.phase) in announced


def told(cell: Cell, ended: Ended, moment: str) -> str:
    """The cell as a row of a table."""
    verdict = ended.directory / "verdict.json" if ended.directory else None
    line = json.loads(verdict.read_text())["headline"] if verdict and verdict.exists() else "no verdict"
    return f"| {cell.victim.name} | {moment or cell.phase} | {ended.code} | {line} | KILL_SEED={SEED} |"


def assert_readable(watched: Watched, ended: Ended) -> None:
    """What was recorded is judged by hand as it was judged by the run, if it was, and can be looked at."""
    assert ended.directory, ended.output[-3000:]
    path: Path = ended.directory / "verdict.json"
    before = path.read_bytes() if path.exists() else None
    again = watched.resilience.judge(ended.directory)
    assert again.returncode == VERDICT_CODES[ended.verdict["verdict"]], again.stdout + again.stderr
    assert before in {None, path.read_bytes()}
    assert all((ended.directory / name).stat().st_size > 0 for name in ("timeline.json", "junit.xml", "report.html"))
    (whole,) = ended.findings("assumption.history-whole")
    assert re.fullmatch(r"\d+ torn, 0 broken", whole["measured"]), whole


def assert_says_so(cell: Cell, ended: Ended) -> None:
    """A finding says what died."""
    reasons = [f["reason"] for f in ended.verdict["findings"] if (f["check"], f["verdict"]) == (cell.finding, UNSURE)]
    assert any(re.search(cell.says, reason) for reason in reasons), reasons


def assert_nothing_is_missing(cell: Cell, ended: Ended) -> None:
    """A pass has all that a verdict rests on; what died while the stack came up, and only then, is on record."""
    assert ended.events("ended")
    deaths = [data["member"] for data in ended.events("member") if data["what"] == "exited"]
    expected = [cell.victim.name.lower()] if cell.phase == "stack" else []
    assert [name.rpartition("-")[0] for name in deaths if not name.startswith("redis-cluster")] == expected


def assert_healed(ended: Ended) -> None:
    """An injection is healed even without its agent."""
    assert ended.directory
    ledger = [json.loads(line) for line in (ended.directory / "ledger.jsonl").read_text().splitlines()]
    assert [entry["state"] for entry in ledger] == ["planned", "applied", "healed"]
    assert ledger[-1]["by"] in {"request", "heal-all"}
