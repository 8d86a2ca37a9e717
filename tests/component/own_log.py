"""A real server's own log in a recorded run in which no fault explains what it says."""

import shutil
from pathlib import Path

from resilience.check.finding import Finding
from resilience.check.logs import logs
from resilience.history.record import ClockPair, Event
from tests.histories import STEADY, recorded, scenario


def judged(member: str, log: Path, began_ns: int, folder: Path, tiers: tuple[str, ...] = ()) -> Finding:
    """What is found where the stack was up at ``began_ns`` (`time.time_ns`), when the log had begun."""
    run, about = recorded(tiers=tiers), scenario(tiers=tiers)
    run.drop("stack-up")
    run.events.append(Event("stack-up", STEADY, {"took_s": 3.0}))
    run.clock = [ClockPair(STEADY, began_ns // 1_000_000 * 1_000)]  # logs tell no more than milliseconds
    run.unlogged.add(member)
    kept = folder / "members" / member / log.name
    kept.parent.mkdir(parents=True)
    shutil.copy(log, kept)
    (finding,) = logs(about, run.history(folder, about))
    return finding
