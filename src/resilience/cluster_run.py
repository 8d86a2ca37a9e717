"""One run in a cluster, seen from outside: the stack renewed, a pod plays the run, its record is judged here.

::

    the cluster's lock ─ the older stack ended ─ this one up
    └─ save0 ─ the runner's pod plays (`play`) ─ its record taken out ─ judged, rendered
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec

from resilience import cluster_cli, runner
from resilience.backend.kubernetes.api import Api
from resilience.backend.kubernetes.cluster import Cluster, platform_of
from resilience.backend.kubernetes.heartbeat import Heartbeat, beating
from resilience.backend.kubernetes.images import PROJECT
from resilience.backend.kubernetes.mailbox import Clerk, answering
from resilience.backend.kubernetes.platform import KubernetesPlatform
from resilience.backend.kubernetes.staging import Staging
from resilience.backend.kubernetes.tiers import NOTHING_MORE, Extent
from resilience.backend.machine.docker import KIND
from resilience.control import needed_for
from resilience.errors import HarnessError, HostError, SpecError
from resilience.history.lines import Damage, read_batches
from resilience.history.record import Event, PhaseWindow, RunLine
from resilience.history.writer import Writer
from resilience.host import refused_to_write
from resilience.interrupt import Interrupted, interruptible
from resilience.report.run import Run
from resilience.report.store import RunStore
from resilience.report.terminal import console_for, plain
from resilience.spec.fault import Delete
from resilience.spec.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A run that is asked for."""

    scenario: Scenario
    store: RunStore
    rerun: str
    as_control: bool  # run as a control, which leaves ``latest`` where it is


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlace:
    """Where runs are played: a cluster's images, and whether its lock may be broken."""

    cluster: Cluster
    images: Mapping[str, str]  # by official name
    break_lock: bool

    @property
    def where(self) -> str:
        """What people ask for the cluster by."""
        return self.cluster.stack

    def run(self, asked: Asked) -> tuple[runner.Outcome, Path]:
        """Runs a scenario; the outcome and the run's directory. Raises `HostError`, `SpecError`, `StackError`."""
        stack = asked.scenario.stack
        cluster_cli.require_reference_services(stack)
        cluster = self.cluster
        cluster_cli.make_if_missing(cluster)
        api = cluster.open()
        if asks_the_machine(asked.scenario) and (refused := cluster.machine_refused(api)):
            raise SpecError(f"{asked.scenario.name}: {refused}")
        with cluster_cli.held(cluster, api, asked.scenario.name, break_lock=self.break_lock) as hold:
            cluster_cli.require_whole(cluster)
            cluster_cli.require_healed(platform_of(cluster, api, stack), self.where)
            cluster_cli.clear(cluster, api)
            cluster_cli.bring_up(cluster, api, stack, self.images)
            cluster_cli.heal_left(platform_of(cluster, api, stack))  # who only looks, or did not run before
            return self._recorded(cluster, api, asked, hold)

    def _recorded(
        self, cluster: Cluster, api: Api, asked: Asked, hold: cluster_cli.Hold
    ) -> tuple[runner.Outcome, Path]:
        scenario, console = asked.scenario, console_for(sys.stdout)
        needed = needed_for(scenario, cluster.servers())
        stands = msgspec.structs.replace(scenario, stack=platform_of(cluster, api, scenario.stack).stack)
        with runner.opened(stands, asked.store, asked.rerun, needed) as record:
            console.print(plain(f"{scenario.name}: {scenario.title} (seed {scenario.seed}) → {record.directory}"))
            staging = Staging(cluster, api, scenario.stack, lambda line: console.print(plain(line), soft_wrap=True))
            with interruptible(lambda text: print(f"resilience: {text}", file=sys.stderr)):  # noqa: T201
                clerk = answering(Clerk(api, cluster.machine(api))) if asks_the_machine(scenario) else nullcontext()
                with clerk, beating(Heartbeat(api)):
                    code, reasons = play(staging, record, self.images[PROJECT])
                hold.alarm.off()  # what is recorded is judged, whoever has the cluster
                if hold.lost:
                    code = HarnessError.exit_code
                else:
                    _put_right(cluster, api, scenario, code, reasons)
                note(record, [*reasons, *hold.lost])
            judgement = runner.judge_run(record, None if asked.as_control else asked.store, console)
            return runner.Outcome(judgement, code), record.directory


def _put_right(cluster: Cluster, api: Api, scenario: Scenario, code: int, reasons: list[str]) -> None:
    """Ends what the runner has left done to the cluster, which is this run's still; a reason for each."""
    if asks_the_machine(scenario):
        _insist(lambda: reasons.extend(left_broken(cluster)), reasons)
    if code:
        _insist(lambda: reasons.extend(left_injected(lambda: platform_of(cluster, api, scenario.stack))), reasons)


def asks_the_machine(scenario: Scenario) -> bool:
    """Whether its runner will have something done to a whole node, or by the cluster itself."""
    experiment = scenario.experiment
    return experiment is not None and (experiment.target.scope != "member" or isinstance(experiment.fault, Delete))


def left_broken(cluster: Cluster) -> list[str]:
    """Puts right what the runner has left broken, because it was killed or nobody answered it; a reason for each."""
    reasons: list[str] = []
    with _told(reasons):
        reasons += [f"{line}: the runner had left it so" for line in cluster.put_nodes_right()]
    return reasons


def left_injected(platform: Callable[[], KubernetesPlatform]) -> list[str]:
    """Ends what a runner that was cut short has left injected, so that the next run may begin; a reason for each.

    ``platform`` asks the cluster; raises `HarnessError`.
    """
    reasons: list[str] = []

    def heard(ended: cluster_cli.Ended) -> None:
        unproved = "" if ended.proved else "; that it has ended is not proved"
        reasons.append(f"injection {ended.injection}: the runner had left it so{unproved}")

    with _told(reasons):
        cluster_cli.heal_left(platform(), heard)
    return reasons


def prepared(reports: Path, *, break_lock: bool, extent: Extent = NOTHING_MORE, where: str = KIND) -> ClusterPlace:
    """Makes ready, with progress, what every run in a cluster needs that is no larger than ``extent``. Raises
    `HostError`, `StackError`.
    """
    cluster = cluster_cli.cluster_of(where)
    cluster_cli.preflight(cluster, extent)
    if refused := refused_to_write(reports):
        raise HostError(f"no report can be written in {reports} ({refused}): name another place by --reports")
    return ClusterPlace(cluster=cluster, images=cluster_cli.build(cluster, extent.tiers), break_lock=break_lock)


def play(staging: Staging, record: Run, image: str) -> tuple[int, list[str]]:
    """The exit code of what cut the run short, 0 if nothing did, and what of its record did not come whole.

    The first signal ends the run; none keeps its record from being taken out, nor its pod from being ended.
    """
    known = {path.name: path.read_text() for path in (record.spec, record.control) if path.exists()}
    record.give_reserve()
    reasons: list[str] = []
    code = HarnessError.exit_code
    try:
        with _told(reasons):
            staging.start(image, known)
            code = _follow(staging)
            reasons += [staging.lost] if staging.lost else []
    except Interrupted as interrupted:
        reasons.append(f"ended by {interrupted.signal.name} before the runner could hear of it")
        code = interrupted.exit_code
    _insist(staging.end_loads, reasons)
    _insist(lambda: reasons.extend(staging.fetch(record.directory)), reasons)
    _insist(staging.end, reasons)
    return code, reasons


def _insist(step: Callable[[], None], reasons: list[str]) -> None:
    """Does one step of the end, once more where a signal broke it off: `interruptible` answers all but the first."""
    with _told(reasons):
        try:
            step()
        except Interrupted as interrupted:
            reasons.append(f"{interrupted.signal.name} came at its end")
            step()


@contextmanager
def _told(reasons: list[str]) -> Iterator[None]:
    """What goes wrong in one step is a reason, and the next one is done all the same: what there is is judged."""
    try:
        yield
    except (HarnessError, OSError) as error:
        reasons.append(str(error))


def _follow(staging: Staging) -> int:
    """The runner's exit code; the first Ctrl-C is handed on to it, and its end is waited for all the same."""
    try:
        return staging.follow()
    except Interrupted as interrupted:
        staging.interrupt(interrupted.signal)
        return staging.follow()


def note(record: Run, reasons: Sequence[str]) -> None:
    """Puts into the record what is wrong with it, so that whoever judges it again knows.

    It stands at the record's last instant: the run's clock is that of another machine, and where the record breaks off
    is told by it.
    """
    if not reasons:
        return
    at_us = last_us(record.history)
    if _is_torn(record.history):
        with record.history.open("ab") as file:
            file.write(b"\n")  # or the first reason would be torn with it
    with Writer(record.history) as writer:
        for reason in reasons:
            writer.write(Event("error", at_us, {"where": "Records", "message": f"the record: {reason}"}))


def last_us(history: Path) -> int:
    """The last instant in a run's own record; 0 for one that has none."""
    lines = (line for batch in read_batches(history, RunLine, Damage()) for line in batch)
    return max((line.end if isinstance(line, PhaseWindow) else line.at for line in lines), default=0)


def _is_torn(history: Path) -> bool:
    return history.exists() and history.stat().st_size > 0 and not history.read_bytes().endswith(b"\n")
