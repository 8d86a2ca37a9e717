"""A client of the load: one generator's process, as the runner sees it through its plan, log, stats and summary."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from resilience.history.record import Event
from resilience.spec.load import Load, numbered
from resilience.spec.plan import WHOLE, Share
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Stack

PLAN_VARIABLE = "RESILIENCE_LOAD_PLAN"
RECORD_VARIABLE = "RESILIENCE_RECORD"  # "alternate": every other second only, for the benchmark of the recorder
COMMITTED_SHARE_MIN = 0.3  # of transactions on lists: those that no order would be left with are rolled back
RATE_SHARE_MIN = 0.9  # of what is asked for, where the scenario names no minimum


class Process(Protocol):
    """A command that runs in the stack; see `backend.base.Process`."""

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        ...

    def interrupt(self) -> None:
        """Asks it to end (SIGINT)."""
        ...

    def wait(self, timeout_s: float) -> int:
        """Waits for its end, kills it after the time-out; the exit code."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSpec:
    """What one kind of client is: the component whose member it runs in, its command, the rates that it is to reach.

    Several processes of a kind run in a member each, and reach the rates together.
    """

    name: str
    component: str
    argv: Callable[[Path, Mapping[str, str]], list[str]]  # from its plan and the runner's environment
    rates_min: Callable[[Scenario], dict[str, float]]  # ok ops per second, by stream
    processes: Callable[[Scenario], int] = lambda _scenario: 1

    def shares(self, scenario: Scenario, begins_us: int) -> Sequence[Share]:
        """What each of its processes makes, where the schedule of several begins at an instant of the run."""
        number = self.processes(scenario)
        several = [Share(index=index, of=number, begins_us=begins_us) for index in range(number)]
        return several if number > 1 else [WHOLE]

    def name_of(self, share: Share) -> str:
        """What a process of it is called, and its files."""
        return numbered(self.name, share.index)


def _variables(environment: Mapping[str, str]) -> list[str]:
    """A member's environment is its own: what a client is to know goes with its command."""
    return [f"{name}={environment[name]}" for name in (RECORD_VARIABLE,) if name in environment]


def _locust_argv(plan: Path, environment: Mapping[str, str]) -> list[str]:
    return [
        "env", *_variables(environment), f"{PLAN_VARIABLE}={plan}",
        sys.executable, "-m", "locust", "-f", "loadgen/locustfile.py", "--headless", "--users", "3",
        "--spawn-rate", "10", "--exit-code-on-error", "0", "--only-summary",
    ]  # fmt: skip


def _direct_argv(plan: Path, environment: Mapping[str, str]) -> list[str]:
    return ["env", *_variables(environment), sys.executable, "-m", "loadgen.direct", str(plan)]


def _postgresql_argv(plan: Path, environment: Mapping[str, str]) -> list[str]:
    return ["env", *_variables(environment), sys.executable, "-m", "loadgen.postgresql_client", str(plan)]


def _rabbitmq_argv(plan: Path, environment: Mapping[str, str]) -> list[str]:
    return ["env", *_variables(environment), sys.executable, "-m", "loadgen.rabbitmq_client", str(plan)]


def _least(rate: float, least: float | None) -> float:
    return RATE_SHARE_MIN * rate if least is None else least


def _locust_rates(scenario: Scenario) -> dict[str, float]:
    load: Load = scenario.load
    more = {"personalization": _least(load.personalization_ops_per_s, None)} if scenario.stack.personalization else {}
    if scenario.stack.content is not None:
        more["content"] = _least(load.content_ops_per_s, load.content_rate_ops_per_s_min)
    return {
        "session": _least(load.session_rate_ops_per_s, load.session_rate_ops_per_s_min),
        "edit": _least(load.edit_rate_ops_per_s, load.edit_rate_ops_per_s_min),
        **more,
    }


def _direct_rates(scenario: Scenario) -> dict[str, float]:
    load = scenario.load
    least = _least(load.direct_rate_ops_per_s, load.direct_rate_ops_per_s_min)
    return {f"shard-{group}": least for group, _ in enumerate(scenario.stack.shards, 1)}


def _postgresql_rates(scenario: Scenario) -> dict[str, float]:
    load = scenario.load
    least = _least(load.postgresql_ops_per_s, load.postgresql_rate_ops_per_s_min)
    registers = load.postgresql_register_rate_ops_per_s
    transactions = load.postgresql_list_rate_ops_per_s
    return (
        {"pgbouncer": least, "direct": least}
        | ({} if registers is None else {"registers": _least(registers, None)})
        | ({} if transactions is None else {"lists": transactions * COMMITTED_SHARE_MIN})
    )


def _rabbitmq_rates(scenario: Scenario) -> dict[str, float]:
    load = scenario.load
    return dict.fromkeys(scenario.stack.load_queues, _least(load.rabbitmq_ops_per_s, load.rabbitmq_rate_ops_per_s_min))


CLIENTS: tuple[ClientSpec, ...] = (
    ClientSpec(
        name="locust",
        component="loadgen",
        argv=_locust_argv,
        rates_min=_locust_rates,
        processes=lambda scenario: scenario.load.processes,
    ),
    ClientSpec(name="direct", component="direct-client", argv=_direct_argv, rates_min=_direct_rates),
    ClientSpec(name="postgresql", component="postgresql-client", argv=_postgresql_argv, rates_min=_postgresql_rates),
    ClientSpec(name="rabbitmq", component="rabbitmq-client", argv=_rabbitmq_argv, rates_min=_rabbitmq_rates),
)


def clients_of(stack: Stack) -> tuple[ClientSpec, ...]:
    """The clients that drive a stack: each tier that it may do without has one of its own."""
    has = {"postgresql-client": stack.postgresql is not None, "rabbitmq-client": stack.rabbitmq is not None}
    return tuple(spec for spec in CLIENTS if has.get(spec.component, True))


class Client:
    """One process of a client that was started."""

    def __init__(
        self, name: str, process: Process, directory: Path, rates_min: Mapping[str, float], kind: str = ""
    ) -> None:
        """``directory`` is where it writes; ``rates_min`` what all processes of its kind are to reach, by stream."""
        self.name = name
        self.process = process
        self.kind = kind or name
        self.rates_min = rates_min
        self.latest: Mapping[str, Any] = {}  # of the last whole second
        self._directory = directory
        self._read_bytes = 0
        self._decoder = msgspec.json.Decoder(Event)

    def look(self) -> None:
        """Reads the stats that came since the last look."""
        path = self._directory / f"{self.name}.stats.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read_bytes)
            whole = file.read().rpartition(b"\n")[0]
        if whole:
            self._read_bytes += len(whole) + 1
            self.latest = self._decoder.decode(whole.rpartition(b"\n")[2]).data

    @property
    def has_summary(self) -> bool:
        """Whether it has said that it is done."""
        return (self._directory / f"{self.name}.summary.json").exists()

    def last_words(self) -> str:
        """The last line of its log."""
        log = self._directory / f"{self.name}.log"
        said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return said[-1].strip() if said else "it said nothing"

    def end(self, exit_code: int) -> dict[str, Any]:
        """What is on record of its end: exit code, whether its file is torn."""
        return {"exit": exit_code, "torn": self._torn()}

    def _torn(self) -> bool:
        path = self._directory / f"{self.name}.ops.jsonl"
        if not path.exists() or path.stat().st_size == 0:
            return False
        with path.open("rb") as file:
            file.seek(-1, 2)
            return file.read() != b"\n"


def short_of(clients: Sequence[Client]) -> list[str]:
    """The streams that were under their minimum in the last second, each with both numbers."""
    kinds = dict.fromkeys(client.kind for client in clients)
    return [text for kind in kinds for text in _short([client for client in clients if client.kind == kind])]


def _short(together: Sequence[Client]) -> Iterator[str]:
    """Of one kind of client, what all its processes were short of in sum."""
    for stream, least in together[0].rates_min.items():
        done = sum(client.latest.get("ok_by", {}).get(stream, 0) for client in together)
        if done < least:
            yield f"{together[0].kind} {stream}: {done} of {least:g} ops/s"
