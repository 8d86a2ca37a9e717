"""One injection in the agent's hands: applied once, probed, undone once, with its state on disk.

In the injection's private folder: ``applied.json``, ``undoing.json`` and ``undone.json`` (each written once, whole),
``lock`` (held while something is being done or undone) and ``socket`` (of the daemon).
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from resilience.agent import line, probe
from resilience.agent.complaint import complain
from resilience.agent.error import AgentError
from resilience.agent.evidence import Evidence, evidence
from resilience.agent.prelude import Prelude
from resilience.agent.step import Step, step_from_json

StepOf = Callable[[str, Mapping[str, Any]], Step]
ProbeOf = Callable[[str, Mapping[str, Any]], probe.Probe]

_LOCK_WITHIN_S = 10.0


class Job:
    """Built from a request's JSON; raises `AgentError` if that is not one."""

    def __init__(
        self,
        request: Mapping[str, Any],
        step_of: StepOf = step_from_json,
        probe_of: ProbeOf = probe.probe_from_json,
    ) -> None:
        """Touches nothing. ``step_of`` and ``probe_of`` make the parts of an injection that is no Linux primitive."""
        try:
            injection = request["injection"]
            self.id: str = injection["id"]
            self.ttl_ns = int(float(injection["ttl_s"]) * 1e9)
            self.folder = Path(request["dir"])
            self._ledger = Path(request["ledger"])
            self._base_ns = int(request["base_ns"])
            self._prelude = Prelude.from_json(self.id, injection.get("prelude"))
            self._steps = tuple(step_of(self.id, step) for step in injection["steps"])
            self._probe_of, self._watch = probe_of, list(injection["watch"])
            self._probes = self._probes_at(request.get("addresses", {}))
            self._prepared = False
            self.applied_ns: int | None = None  # the instant at which it had been applied by this object
            self._ended: dict[str, Any] = {}  # that all steps were undone: once is enough, if it cannot be written down
            self.left = False  # whether something is done that nobody would end: a failed `apply` could not undo it
        except (KeyError, TypeError, ValueError) as error:
            raise AgentError(f"request: {error!r}") from error

    def prepare(self) -> None:
        """Prepares the probes, once."""
        if not self._prepared:
            probe.prepare(self._all_probes)
        self._prepared = True

    def apply(self, at_ns: int) -> dict[str, int]:
        """Prepares the probes if that has not been done, waits for ``at_ns``, takes the steps.

        Raises `AgentError`, or `OSError` for a full disk; nothing is left done then, or ``left`` says so.
        """
        self.prepare()
        time.sleep(max(0, at_ns - time.monotonic_ns()) / 1e9)
        with self._locked():
            if self._read("applied") or self._read("undone"):
                raise AgentError(f"{self.id}: has been applied or undone before")
            began_ns = time.monotonic_ns()
            self.left = True
            applied_ns = self._do_all()
            done = {"began_ns": began_ns, "applied_ns": applied_ns}
            self._write("applied", done)
            self.applied_ns, self.left = applied_ns, False
        return done

    def in_effect(self) -> list[Evidence]:
        """What the probes see, and saw of the prelude; after its end only that it has ended."""
        ended = self._read("undone") or self._ended
        if ended:
            return [evidence(f"injection {self.id}", "in effect", f"ended by {ended['by']}")]
        still = self._prelude.probes if self._prelude.lasts else ()
        return self._prelude.seen + probe.in_effect(still + self._probes)

    def undo(self, by: str, within_s: float, addresses: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Undoes the steps in reverse and looks until everything is back; a second call answers what the first found.

        ``addresses``: of the members that have others now than before, by name. Raises `AgentError` if a step cannot be
        undone; the others are.
        """
        record = self.end(by)
        if "evidence" not in record:
            if addresses:
                self.close()
                self._probes = self._probes_at(addresses)
            record["evidence"] = self._healed(within_s)
            self._write("undone", record)
        return record

    def end(self, by: str) -> dict[str, Any]:
        """Undoes the steps in reverse, and leaves it to others to look.

        Raises `AgentError`, see `undo`, or `OSError` if it is undone and cannot be written down here: to be told again.
        """
        with self._locked():
            record = self._read("undone")
            if not record:
                if not self._ended:
                    began_ns = self._undoing_since()
                    self.undo_steps()
                    self._ended = {"began_ns": began_ns, "healed_ns": time.monotonic_ns(), "by": by}
                record = dict(self._ended)
                self._write("undone", record)
                if record["by"] != "request":
                    self._book(record)
        return record

    def close(self) -> None:
        """Closes what the probes hold open."""
        for item in self._all_probes:
            item.close()

    def _probes_at(self, addresses: Mapping[str, str]) -> tuple[probe.Probe, ...]:
        """The probes, that look at members where these are now."""
        return tuple(self._probe_of(self.id, moved(item, addresses)) for item in self._watch)

    @property
    def _all_steps(self) -> tuple[Step, ...]:
        """In the order in which they are to be undone in reverse: who comes back finds no prelude any more."""
        lasting = self._prelude.lasts
        return self._steps + self._prelude.steps if lasting else self._prelude.steps + self._steps

    @property
    def _all_probes(self) -> tuple[probe.Probe, ...]:
        return self._prelude.probes + self._probes

    def _do_all(self) -> int:
        """Takes all steps, and ends the prelude if it does not last; the instant at which its own had been taken."""
        try:
            for step in self._prelude.steps:
                step.do()
            self._prelude.last()
            for step in self._steps:
                step.do()
            applied_ns = time.monotonic_ns()
            if not self._prelude.lasts:
                _undo(self._prelude.steps, "the prelude")
        except Exception as error:  # whatever it is, what was done by then must not stay
            _undo(self._all_steps, f"{self.id}: {error}")  # harmless for what was never done
            self.left = False
            raise AgentError(f"{self.id}: {error}; what was done by then has been undone") from error
        return applied_ns

    def undo_steps(self) -> None:
        """Undoes the steps in reverse, and keeps no record. Raises `AgentError` if one cannot be; the others are."""
        _undo(self._all_steps, f"{self.id}: undo")

    def _undoing_since(self) -> int:
        """When undoing began, by whichever try: what an earlier one has undone is not in effect any more."""
        begun = self._read("undoing")
        if not begun:
            begun = {"began_ns": time.monotonic_ns()}
            with contextlib.suppress(OSError):  # a disk that is full must not keep it from being ended
                self._write("undoing", begun)
        return int(begun["began_ns"])

    def _healed(self, within_s: float) -> list[Evidence]:
        """Steps are looked at as patiently as probes are: what comes to its end by itself may take a while for it."""
        looks = [step.undone for step in self._all_steps]
        return probe.insist(looks + [item.healed for item in self._all_probes], within_s)

    def _book(self, record: Mapping[str, Any]) -> None:
        """Nobody asked for it, so nobody else writes it down.

        Where that cannot be done it stays open in the ledger: whoever ends it is told by ``undone.json`` how it ended.
        """
        at_us, began_us = ((record[key] - self._base_ns) // 1_000 for key in ("healed_ns", "began_ns"))
        booked = {"at_us": at_us, "injection": self.id, "state": "healed", "by": record["by"], "began_us": began_us}
        try:
            line.append(self._ledger, json.dumps(booked).encode())
        except OSError:
            complain()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + _LOCK_WITHIN_S
        with (self.folder / "lock").open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise AgentError(f"{self.id}: another agent has been at it for {_LOCK_WITHIN_S} s") from None
                    time.sleep(0.01)
            yield

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        new = self.folder / f"{name}.new.{os.getpid()}"
        new.write_text(json.dumps(record))
        new.replace(self.folder / f"{name}.json")


def moved(watch: Mapping[str, Any], addresses: Mapping[str, str]) -> dict[str, Any]:
    """What is to be watched, of a member that may have another address now."""
    to = watch.get("to", {})
    address = addresses.get(to.get("name", ""), "")
    return {**watch, "to": {**to, "address": address}} if address else dict(watch)


def _undo(steps: tuple[Step, ...], what: str) -> None:
    """Undoes all in reverse; one that fails does not keep the others from being undone."""
    troubles = []
    for step in reversed(steps):
        try:
            step.undo()
        except Exception as error:  # noqa: BLE001  # see above
            troubles.append(str(error) or repr(error))
    if troubles:
        raise AgentError(f"{what}; not undone: {'; '.join(troubles)}")
