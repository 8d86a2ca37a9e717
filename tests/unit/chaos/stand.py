"""A run's session on a fake platform whose clock only moves when somebody waits."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from resilience.chaos.session import Session
from resilience.fault.injector import Injector
from resilience.fault.ledger import Ledger
from resilience.history.clock import RunClock
from resilience.history.phase import PhaseBoard
from resilience.history.record import Event, PhaseWindow
from resilience.spec.read import read_scenario
from tests.fakes import FakeFaultPlatform
from tests.unit.fault.stand import ROLES, ROOT

SCENARIO = read_scenario(ROOT, "redis-failover")
SECOND = 1_000_000


class StillClock(RunClock):
    """A clock that stands where the platform's does."""

    platform: FakeFaultPlatform

    def now_us(self) -> int:
        return self.platform.now_ns // 1_000


@dataclass(frozen=True)
class Stand:
    """A session and what stands behind it."""

    session: Session
    platform: FakeFaultPlatform

    def lines(self) -> list[Event | PhaseWindow]:
        path = self.session.run_dir / "history.jsonl"
        written = path.read_bytes().splitlines() if path.exists() else []
        return [msgspec.json.decode(line, type=Event | PhaseWindow) for line in written]

    def events(self, name: str) -> list[Event]:
        return [line for line in self.lines() if isinstance(line, Event) and line.name == name]

    def windows(self) -> list[PhaseWindow]:
        return [line for line in self.lines() if isinstance(line, PhaseWindow)]


def stand_in(folder: Path) -> Stand:
    (folder / "load").mkdir()
    platform = FakeFaultPlatform(SCENARIO.stack)
    clock = StillClock(0)
    object.__setattr__(clock, "platform", platform)

    def sleep(seconds: float) -> None:
        platform.now_ns += round(seconds * 1e9)

    session = Session(
        run_dir=folder,
        scenario=SCENARIO,
        clock=clock,
        board=PhaseBoard(folder / "load" / "phases.jsonl"),
        platform=platform,
        injector=Injector(platform=platform, roles=lambda: ROLES, ledger=Ledger(folder / "ledger.jsonl"), clock=clock),
        sleep=sleep,
    )
    return Stand(session, platform)
