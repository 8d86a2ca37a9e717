"""The matrix of what is killed and when, as data: what is to be seen afterwards, and why some cells cannot be.

A *cell* is a victim in a phase of the run. ``coming up`` is the sandbox before anything is recorded, ``stack`` the
time until the stack answers, ``drain`` the load's end, ``audit`` what follows it: healing, convergence, the audit
itself, the end of the stack, the verdict.
"""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.scenario.traces import Seen

SEED_VARIABLE = "KILL_SEED"
PHASES = ("coming up", "stack", "warmup", "steady", "fault", "recovery", "drain", "audit")
LASTS_S: Mapping[str, float] = {  # for how long from its beginning on somebody may be killed in it, in `killed.yaml`
    "coming up": 0.3, "stack": 2.0, "warmup": 2.8, "steady": 2.8, "fault": 7.0, "recovery": 3.0, "drain": 2.5,
    "audit": 0.1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A process that is killed: how it is known, in which phases it exists, and why not in the others."""

    name: str
    group: str  # one cell of each group is in the sample
    known_by: Callable[[Sequence[str]], bool]  # its command line
    phases: tuple[str, ...]
    elsewhere: str = ""  # why the other phases are left out


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kill, and what has to be seen of it: one of these exit codes, and a finding that says what died."""

    victim: Victim
    phase: str
    codes: tuple[int, ...]
    finding: str = ""  # "": none, since no verdict rests on the victim
    says: str = ""

    @property
    def verdicts(self) -> set[str]:
        """The verdicts that go with the exit codes; none where nothing is recorded yet.

        In ``audit`` the kill may come after all that a verdict rests on.
        """
        late = {"pass"} if self.phase == "audit" else set()
        return set() if self.phase == "coming up" else late | {_VERDICTS[code] for code in self.codes}

    @property
    def name(self) -> str:
        return f"{self.victim.name} in {self.phase}"


def module(*words: str) -> Callable[[Sequence[str]], bool]:
    """Python that runs a module, e.g. ``python -m locust``; not who starts it in a member."""
    return lambda argv: "python" in argv[0] and tuple(argv[1 : 2 + len(words)]) == ("-m", *words)


def program(name: str, *words: str) -> Callable[[Sequence[str]], bool]:
    return lambda argv: argv[0].endswith(f"/{name}") and set(words) <= set(argv)


UNDER_LOAD = ("warmup", "steady", "fault", "recovery", "drain")
_HARNESS = {
    "supervisor": module("resilience", "run"),  # the oldest of these; the runner is the youngest
    "first process": program("tini-static", "resilience"),
    "runner": module("resilience", "run"),
}
VICTIMS: Mapping[str, Victim] = {
    victim.name: victim
    for victim in (
        *(Victim(name=name, group="harness", known_by=known_by, phases=PHASES) for name, known_by in _HARNESS.items()),
        Victim(
            name="Chaos Toolkit", group="experiment", known_by=module("chaostoolkit"),
            phases=("steady", "fault", "recovery"), elsewhere="it runs from the end of the warm-up to that of the load",
        ),
        Victim(
            name="agent", group="experiment", known_by=module("resilience.agent"), phases=("fault", "recovery"),
            elsewhere="it is started for the injection, and goes 5 s after the healing",
        ),
        Victim(
            name="Locust", group="load", known_by=module("locust"), phases=UNDER_LOAD,
            elsewhere="it is started when the stack is up, and ends with the load",
        ),
        Victim(
            name="direct client", group="load", known_by=module("loadgen.direct"), phases=UNDER_LOAD,
            elsewhere="it is started when the stack is up, and ends with the load",
        ),
        Victim(
            name="Prometheus", group="platform", known_by=program("prometheus"), phases=PHASES[1:],
            elsewhere="it is a member of the stack",
        ),
        Victim(
            name="edge", group="platform", known_by=module("services.edge"), phases=PHASES[1:],
            elsewhere="it is a member of the stack",
        ),
    )
}  # fmt: skip

PASS, FAIL, INCONCLUSIVE, BROKEN, KILLED = 0, 1, 3, 4, -9  # exit codes; -9: the supervisor's own end
_VERDICTS: Mapping[int, str] = {
    PASS: "pass", FAIL: "fail", INCONCLUSIVE: "inconclusive", BROKEN: "inconclusive", KILLED: "inconclusive",
}  # fmt: skip
_WHERE = {"stack": "before any load", "drain": "after the load", "audit": "after the load"}


def _cell(victim: str, phase: str, *codes: int, finding: str = "", says: str = "") -> Cell:
    return Cell(victim=VICTIMS[victim], phase=phase, codes=codes, finding=finding, says=says)


def _harness(victim: str, phase: str) -> Cell:
    """The run is over. Whoever is left judges what there is; of the supervisor's end nobody is left."""
    code = KILLED if victim == "supervisor" else BROKEN if phase == "coming up" else INCONCLUSIVE
    if phase == "coming up":
        return _cell(victim, phase, code)
    codes = (code, PASS) if phase == "audit" and code != KILLED else (code,)
    says = r"^cut short: the record breaks off at [\d.]+ s, " + _WHERE.get(phase, f"in phase {phase}")
    return _cell(victim, phase, *codes, finding="assumption.not-interrupted", says=says)


def _toolkit(phase: str) -> Cell:
    says = "^Chaos Toolkit was killed by SIGKILL and left no journal"
    return _cell("Chaos Toolkit", phase, INCONCLUSIVE, finding="assumption.experiment-completed", says=says)


def _load(victim: str, phase: str) -> Cell:
    """The run goes on without it; where its rate had not been reached, it cannot."""
    codes = (INCONCLUSIVE, BROKEN) if phase == "warmup" else (INCONCLUSIVE,)
    says = f"{'locust' if victim == 'Locust' else 'direct'} was killed by SIGKILL"
    return _cell(victim, phase, *codes, finding="assumption.generator-alive", says=says)


def _member(victim: str, phase: str) -> Cell:
    """It is started again, and clients try the other edge: what people got is judged, but nobody may call it a pass.

    In ``audit`` it may die just before the stack does; then nobody has seen it. In ``warmup`` an experiment may begin
    while it is away, and end at once: what it has done to the run is the first reason then, and its end the second.
    """
    if phase == "stack":
        return _cell(victim, phase, PASS)
    codes = (INCONCLUSIVE, FAIL, PASS) if phase == "audit" else (INCONCLUSIVE, FAIL)
    killed = rf"{victim.lower()}-\d was killed by SIGKILL at [\d.]+ s, which no fault of this run explains"
    says = rf"^{killed}$|\(otherwise inconclusive: {killed}\)$"
    return _cell(victim, phase, *codes, finding="members", says=says)


NOBODY = Cell(
    victim=Victim(name="nobody", group="", known_by=lambda _: False, phases=()), phase="any phase", codes=(PASS,)
)
CELLS: tuple[Cell, ...] = (
    *(_harness(victim, phase) for victim in _HARNESS for phase in PHASES),
    *(_toolkit(phase) for phase in VICTIMS["Chaos Toolkit"].phases),
    # the fault is healed all the same, but that it held to the end nobody can say
    _cell("agent", "fault", INCONCLUSIVE, finding="assumption.fault-proved", says="its agent is gone"),
    _cell("agent", "recovery", PASS),  # it has done all that it was for
    *(_load(victim, phase) for victim in ("Locust", "direct client") for phase in UNDER_LOAD),
    *(_member(victim, phase) for victim in ("Prometheus", "edge") for phase in VICTIMS[victim].phases),
)


def seed_of(environment: Mapping[str, str] = os.environ) -> int:
    """The seed that somebody asks for, else another one each time."""
    return int(environment.get(SEED_VARIABLE) or random.SystemRandom().randrange(1_000_000))


SEED = seed_of()


def sample(seed: int) -> tuple[Cell, ...]:
    """One cell of each group."""
    chance = random.Random(seed)
    groups = sorted({cell.victim.group for cell in CELLS})
    return tuple(chance.choice([cell for cell in CELLS if cell.victim.group == group]) for group in groups)


def chosen(cell: Cell, processes: Sequence[Seen], chance: random.Random) -> int | None:
    """The victim among a run's processes, None while there is none; of several members one by chance."""
    found = sorted(seen.pid for seen in processes if seen.argv and cell.victim.known_by(seen.argv))
    match cell.victim.name:
        case "supervisor":
            return found[0] if found else None
        case "runner":
            return found[1] if len(found) > 1 else None
        case _:
            return chance.choice(found) if found else None
