"""The load of a run while it runs: starts the clients, waits for their rate, ends them, says how they ended.

A client that dies before the rate is reached is an error; one that dies later is a fact of the run, on record like
any other, and makes its judgement inconclusive.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from resilience.errors import LoadError
from resilience.history.clock import RunClock, kernel_boot_id
from resilience.load.client import Client, ClientSpec, Process, clients_of, short_of
from resilience.load.clock import told_at
from resilience.load.plan import plan_for
from resilience.spec.load import numbered
from resilience.spec.plan import ShardPlan, Share
from resilience.spec.scenario import Scenario

POLL_S = 0.1
RATE_TIMEOUT_S = 30.0  # or the warm-up, if that is longer: right after a cluster was made everything is slow
SUMMARY_GRACE_S = 3.0  # beyond the time that the plan gives the clients to drain
END_TIMEOUT_S = 5.0  # for a client that was interrupted; then it is killed
LAST_SCRAPES = 3

Wait = Callable[[float], None]
Say = Callable[[str, dict[str, Any]], None]  # writes an event


class Launcher(Protocol):
    """Where clients are started; `backend.base.OwnedPlatform` is one."""

    @property
    def runner_address(self) -> str:
        """Where clients that may stand under another kernel reach the runner; "" where none does."""
        ...

    def run_beside(self, name: str, argv: Sequence[str], log: Path) -> Process:
        """Starts a command in the member of that name."""
        ...

    def secret_file(self, name: str) -> Path:
        """The file that holds a secret of the stack."""
        ...


class LoadRunning:
    """The clients that were started."""

    def __init__(
        self,
        clients: Sequence[Client],
        scenario: Scenario,
        say: Say,
        wait: Wait = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``say`` writes an event, ``wait`` sleeps, ``now`` is the clock of both in seconds."""
        self.drained_at: float | None = None  # when all clients had closed what they had open; None: not all say so
        self._clients = clients
        self._scenario = scenario
        self._say = say
        self._wait = wait
        self._now = now
        self._ended = False

    def wait_for_rate(self) -> None:
        """Returns once every stream had its minimum of answered ops in one second.

        Raises `LoadError` when a client died, or the time is over.
        """
        timeout_s = max(RATE_TIMEOUT_S, self._scenario.timeline.warmup_s)
        deadline = self._now() + timeout_s
        while short := short_of(self._looked_at()):
            for client in self._clients:
                if (code := client.process.poll()) is not None:
                    raise LoadError(f"the load client {client.name} ended with {code}: {client.last_words()}")
            if self._now() >= deadline:
                why = f"{'; '.join(short)}; {self._used()}"
                raise LoadError(f"the load did not reach its minimum rate within {timeout_s:g} s: {why}")
            self._wait(POLL_S)

    def _used(self) -> str:
        """What the generators took of the machine in the last second."""
        cores = sum(client.latest.get("cpu_ratio", 0.0) for client in self._clients)
        return f"the load generators used {cores:.1f} of {os.cpu_count()} cores"

    def now(self) -> dict[str, float | None]:
        """The last second of all clients together, as the terminal shows it; None where nothing is known."""
        seconds = [client.latest for client in self._looked_at() if client.latest]
        ended = sum(second[outcome] for second in seconds for outcome in ("ok", "fail", "unknown"))
        not_ok = sum(second[outcome] for second in seconds for outcome in ("fail", "unknown"))
        return {
            "rate_ops_per_s": float(sum(second["sent"] for second in seconds)) if seconds else None,
            "error_ratio": not_ok / ended if ended else None,
            "lag_ms": max((second["lag_ms_p99"] for second in seconds), default=None),
        }

    def stop(self) -> None:
        """Waits until the clients have drained and their last values are scraped, then ends them.

        To be called once `stop` was announced.
        """
        self._wait_summaries()
        self._wait(LAST_SCRAPES * self._scenario.stack.scrape_interval_s)
        self.end()

    def end(self) -> None:
        """Ends the clients and puts on record how; a second call does nothing."""
        if self._ended:
            return
        self._ended = True
        for client in self._clients:
            if client.process.poll() is None:
                client.process.interrupt()
        ends = {client.name: client.end(client.process.wait(END_TIMEOUT_S)) for client in self._clients}
        self._say("load-stopped", {"clients": ends})

    def _wait_summaries(self) -> None:
        """Waits for the summaries of all clients that live; one that never comes shows in what is on record."""
        timeout_s = self._scenario.load.stop_timeout_s + SUMMARY_GRACE_S
        deadline = self._now() + timeout_s
        while not all(client.has_summary or client.process.poll() is not None for client in self._clients):
            if self._now() >= deadline:
                return
            self._wait(POLL_S)
        if all(client.has_summary for client in self._clients):
            self.drained_at = self._now()

    def _looked_at(self) -> Sequence[Client]:
        for client in self._clients:
            client.look()
        return self._clients


@contextmanager
def load_running(
    scenario: Scenario, shards: tuple[ShardPlan, ...], launcher: Launcher, directory: Path, *, clock: RunClock, say: Say
) -> Iterator[LoadRunning]:
    """Runs the load while it is entered; ``directory`` is the run's folder for it, ``say`` writes an event.

    Raises what the launcher raises; what was started by then is ended.
    """
    clients: list[Client] = []
    load = LoadRunning(clients, scenario, say)
    kinds, begins_us = clients_of(scenario.stack), clock.now_us()
    processes = [(spec, share) for spec in kinds for share in spec.shares(scenario, begins_us)]
    with told_at(launcher.runner_address) as clock_address:
        try:
            for spec, share in processes:
                path = directory / f"{spec.name_of(share)}.plan.json"
                plan = plan_for(
                    spec.component,
                    share=share,
                    scenario=scenario,
                    shards=shards,
                    directory=directory,
                    secret_file=launcher.secret_file,
                    clock=clock,
                    clock_address=clock_address,
                )
                path.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
                clients.append(_started(spec, share, scenario, launcher, path))
            say("load-started", {"clients": [client.name for client in clients], "boot_id": kernel_boot_id()})
            yield load
        finally:
            load.end()


def _started(spec: ClientSpec, share: Share, scenario: Scenario, launcher: Launcher, plan: Path) -> Client:
    """Starts a process of a client in its member, with the plan beside which it writes."""
    members = scenario.stack.of(spec.component)
    if len(members) <= share.index:
        lacking = f"no member for the load's {numbered(spec.component, share.index)}"
        raise LoadError(f"the stack {scenario.stack.name} has {lacking}")
    directory, name = plan.parent, spec.name_of(share)
    argv = spec.argv(plan, os.environ)
    process = launcher.run_beside(members[share.index].name, argv, directory / f"{name}.log")
    return Client(name, process, directory, spec.rates_min(scenario), spec.name)
