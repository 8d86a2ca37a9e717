"""A scenario: the frozen description of one run."""

from typing import Annotated, Any

from msgspec import Meta

from resilience.spec.blast import BlastRadius
from resilience.spec.fault import FaultSpec, Prelude, Target
from resilience.spec.load import Load
from resilience.spec.postgresql import Runbook
from resilience.spec.record import Record
from resilience.spec.slo import Slo
from resilience.spec.stack import Stack
from resilience.spec.weakness import KnownWeakness

PhaseSeconds = Annotated[float, Meta(ge=0, le=3_600)]


class Timeline(Record, frozen=True, kw_only=True):
    """How long each phase lasts; a scenario without a fault has ``fault_s`` and ``recovery_s`` 0."""

    warmup_s: PhaseSeconds
    steady_s: PhaseSeconds
    fault_s: PhaseSeconds
    recovery_s: PhaseSeconds

    @property
    def total_s(self) -> float:
        """The sum of the declared phases."""
        return self.warmup_s + self.steady_s + self.fault_s + self.recovery_s


class Experiment(Record, frozen=True, kw_only=True):
    """A Chaos Toolkit file, as far as the harness reads it: the document is run by `chaos run` as it stands."""

    file: str  # path below the project's root
    title: str
    fault: FaultSpec
    target: Target
    document: dict[str, Any]
    prelude: Prelude | None = None
    promotes: bool = False  # whether a standby of PostgreSQL is promoted while the fault lasts
    runbook: Runbook = Runbook()  # how, if so
    cancels: bool = False  # whether backends of PostgreSQL that wait for a standby are cancelled
    rejoins: bool = False  # whether who takes writes beside PostgreSQL's primary is fenced once the fault has ended


class Scenario(Record, frozen=True, kw_only=True):
    """Everything that one run is, fully resolved: no other file is read after this exists."""

    name: str
    title: str
    description: str
    stack: Stack
    load: Load
    timeline: Timeline
    experiment: Experiment | None
    slos: tuple[Slo, ...]
    checks: tuple[str, ...]  # names in `check.compose.CHECKS`
    seed: int
    blast_radius: BlastRadius | None = None
    known_weaknesses: tuple[KnownWeakness, ...] = ()
    file: str = ""  # where it was read from, for messages
