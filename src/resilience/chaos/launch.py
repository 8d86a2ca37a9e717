"""Runs an experiment in a process of its own and reads what became of it from its journal.

The exit code alone says little: a failed injection ends with 0. One interrupt is handed on and no second one, since a
second would break off the rollbacks; a deadline ends a process that hangs.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from resilience.chaos.session import SESSION_ENV
from resilience.errors import FaultError
from resilience.spec.scenario import Experiment, Timeline

START_WITHIN_S = 20.0  # the toolkit's own start and end, on a busy machine
ORDERS_WITHIN_S = 90.0  # in a cluster they are under way for a while: to inject, to look again, to end it
HEAL_WITHIN_S = 150.0  # for all healing and its proof: a cluster's node and its pods take over a minute when it is busy
_KILL_WAIT_S = 10.0
_OF_THE_LOAD = frozenset({"load_at_rate"})  # probes of the steady state that ask about ourselves


class ChaosResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an experiment; ``failed`` names activities that failed, probes that were out of tolerance, and a
    steady state that was not asked for.

    ``deviated``: the steady state was not met after healing. What of it the platform did not meet is a matter of the
    platform, so it is not among ``failed``.
    """

    status: str  # completed, failed, aborted, interrupted, as the journal has it; no-journal: it was ended from outside
    deviated: bool
    exit: int
    failed: tuple[str, ...]
    interrupted: bool


class ChaosProcess:
    """One run of ``chaos run``; its folder gets ``experiment.yaml``, ``journal.json`` and ``chaos.log``."""

    def __init__(self, experiment: Experiment, timeline: Timeline, folder: Path, session: Path) -> None:
        """Starts nothing. ``session`` is the runner's ``session.json``."""
        self._experiment = experiment
        self._timeline = timeline
        self._folder = folder
        self._session = session
        self._process: subprocess.Popen[bytes] | None = None
        self._interrupted = False

    @property
    def deadline_s(self) -> float:
        """The longest that the experiment may take from its start."""
        held_s = self._timeline.steady_s + self._timeline.fault_s + self._timeline.recovery_s
        return held_s + START_WITHIN_S + ORDERS_WITHIN_S + HEAL_WITHIN_S

    def start(self) -> None:
        """Starts the experiment in a session of its own, so that a terminal's Ctrl-C does not reach it directly."""
        self._folder.mkdir(parents=True, exist_ok=True)
        document = yaml.safe_dump(self._experiment.document, sort_keys=False, allow_unicode=True)
        (self._folder / "experiment.yaml").write_text(document)
        (self._folder / "settings.yaml").write_text("{}\n")  # nobody's own settings have a say in a verdict
        with (self._folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, **self._environment()},
                cwd=self._folder,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._started.poll()

    def interrupt(self) -> None:
        """Asks it to heal and end; only the first call does something."""
        if not self._interrupted and self._started.poll() is None:
            self._interrupted = True
            self._started.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> ChaosResult:
        """Waits for its end; after the time-out it is killed, and its faults are left to the ledger."""
        try:
            code = self._started.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._started.pid, signal.SIGKILL)
            code = self._started.wait(_KILL_WAIT_S)
        result = result_from_journal(_read_journal(self._folder / "journal.json"), code)
        return msgspec.structs.replace(result, interrupted=result.interrupted or self._interrupted)

    @property
    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise FaultError("the experiment has not been started")
        return self._process

    def _command(self) -> list[str]:
        folder = self._folder
        toolkit = [sys.executable, "-m", "chaostoolkit", "--no-version-check", "--settings", f"{folder}/settings.yaml"]
        log = ["--log-file", f"{folder}/chaos.log"]
        run = ["run", "--rollback-strategy", "always", "--journal-path", f"{folder}/journal.json"]
        return [*toolkit, *log, *run, f"{folder}/experiment.yaml"]

    def _environment(self) -> dict[str, str]:
        timeline = self._timeline
        return {
            SESSION_ENV: str(self._session),
            "RESILIENCE_STEADY_S": f"{timeline.steady_s}",
            "RESILIENCE_FAULT_S": f"{timeline.fault_s}",
            "RESILIENCE_RECOVERY_S": f"{timeline.recovery_s}",
        }


def result_from_journal(journal: Mapping[str, Any], code: int) -> ChaosResult:
    """What a journal says; an empty one says that the process was ended before it could write."""
    status = str(journal.get("status", "no-journal"))
    return ChaosResult(
        status=status,
        deviated=bool(journal.get("deviated", False)),
        exit=code,
        failed=tuple(_failed(journal)),
        interrupted=status == "interrupted",
    )


def _failed(journal: Mapping[str, Any]) -> Iterator[str]:
    yield from _unmet(journal)
    for part in ("run", "rollbacks"):
        for activity in journal.get(part) or ():
            if activity.get("status") != "succeeded":  # an interrupted one has no status at all
                yield _name(activity)
            elif activity["activity"].get("type") == "probe" and activity.get("output") is False:
                yield _name(activity)  # outside of hypotheses the toolkit takes any answer for a success


def _unmet(journal: Mapping[str, Any]) -> list[str]:
    """What was not met of the steady state. The toolkit completes an experiment whose steady state it did not ask for,
    too; after one that was not met to begin with it asks for nothing.
    """
    states = journal.get("steady_states") or {}
    unmet: list[str] = []
    for when in ("before", "after"):
        probes = (states.get(when) or {}).get("probes") or ()
        if not probes and not unmet and journal.get("status") == "completed":
            unmet.append(f"the steady state, of which no probe is on record ({when})")
        for probe in probes:
            answered, met = probe.get("status") == "succeeded", probe.get("tolerance_met", False)
            if not answered or not (met or (when == "after" and _of_the_platform(probe))):
                unmet.append(f"{_name(probe)} ({when})")
    return unmet


def _of_the_platform(probe: Mapping[str, Any]) -> bool:
    """Whether it looks at the platform, and not at the load that is sent to it."""
    return probe.get("activity", {}).get("provider", {}).get("func") not in _OF_THE_LOAD


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("activity", {}).get("name", "an activity without a name"))


def _read_journal(path: Path) -> dict[str, Any]:
    try:
        journal: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return journal
