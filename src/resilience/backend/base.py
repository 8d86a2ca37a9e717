"""What every backend can do, and the optional abilities that some add.

A `Platform` is a stack's members as they run somewhere. The process that brought them up holds the one that can also
start and stop them; other processes of the same run (the chaos process) attach to it and see the same members.
Which backends there are is known to `backend.choice` alone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from resilience.spec.fault import FaultSpec, Target
from resilience.spec.stack import Stack

NodeFault = Literal["power-off", "freeze", "isolate", "reboot"]
At = Callable[[], int]  # is asked, once all is prepared, for the instant at which something is to be done
Say = Callable[[str, dict[str, Any]], None]  # hears of what members do, or of what is done: an event's name and data


def unheard(_name: str, _data: dict[str, Any]) -> None:
    """Where nobody keeps a history."""


def at_once() -> int:
    """An instant that has passed, by whichever clock."""
    return 0


class MemberState(msgspec.Struct, frozen=True, kw_only=True):
    """A member as it is now. ``identity`` changes with every start of its server (pid and start time, pod UID …)."""

    name: str
    component: str
    node: str
    address: str  # an IPv4 address that other members reach it by
    running: bool
    identity: str  # "" while it is not running
    restarts: int
    last_words: str | None = None  # what its log ended with when its server last ended, as it stands; None: it has not
    held_by: tuple[str, ...] = ()  # ids of injections that hold its restart back
    handle: dict[str, Any] = {}  # what the backend's agent needs to find its processes and namespaces


class ToldBy(msgspec.Struct, frozen=True, kw_only=True):
    """The agent whose clock an answer's instants are from, and how well that is known."""

    process: str
    boot_id: str  # of its kernel
    error_ns: int | None  # of its instants on this process's clock; None: where they lie on that is not known


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's answer to an injection; instants are values of this process's `time.monotonic` in nanoseconds."""

    began_ns: int
    applied_ns: int
    told_by: ToldBy | None = None  # None: a process under this kernel


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a probe looked at."""

    what: str
    expected: str
    observed: str
    ok: bool


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe saw; it holds if every piece of evidence does, and there is at least one."""

    evidence: tuple[Evidence, ...]

    @property
    def holds(self) -> bool:
        """Whether the probe is satisfied; no evidence is no proof."""
        return bool(self.evidence) and all(item.ok for item in self.evidence)


class Undone(msgspec.Struct, frozen=True, kw_only=True):
    """The agent's answer to an undo; ``by`` says what ended it: ``request``, or before one came ``ttl``,
    ``restart`` (a new agent found it) or ``leave`` (its agent was told to go). Instants are as in `Injected`.
    """

    began_ns: int  # from then on the injection was not wholly in effect; a node takes a while to be put right
    healed_ns: int  # by then all of it had been undone
    by: str
    proof: Proof
    told_by: ToldBy | None = None
    known: bool = True  # to an agent; else it was never handed to one, or is forgotten


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take at most with one kind of fault, in seconds; what a harness may plan with."""

    lead_s: float = 0.0  # an order is under way to whoever does it, so it is given that long before its instant
    proof_s: float = 0.0  # from the first step until it is proved: what a cluster is told to do takes its own time
    look_s: float = 0.0  # one question more, whether it is in effect


class Platform(Protocol):
    """A stack's members, seen from any process of the run."""

    @property
    def stack(self) -> Stack:
        """The stack as it stands: a backend that does not place members itself says here where they are."""
        ...

    def states(self) -> tuple[MemberState, ...]:
        """All members, in the order of the stack file."""
        ...

    def state(self, name: str) -> MemberState:
        """One member. Raises `StackError` if there is none of that name."""
        ...

    def secret(self, name: str) -> str:
        """A secret of the stack, e.g. ``redis-password``; never to be logged."""
        ...


class FaultCapable(Protocol):
    """A platform whose agent applies faults."""

    def node_steps(self, what: NodeFault, nodes: Sequence[str], members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """The agent's steps that do this to whole nodes; ``members`` are all that these take with them.

        Raises `FaultError` where it cannot be done.
        """
        ...

    def drain_steps(self, nodes: Sequence[str], members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """The agent's steps that have a node take no member any more and evict these, which stand on it, until healing.

        Raises `FaultError` where nobody can.
        """
        ...

    def delete_steps(self, members: Sequence[str], grace_s: int) -> tuple[dict[str, Any], ...]:
        """The agent's steps that have these members deleted, each given so many seconds to end by itself; others come
        in their place.

        Raises `FaultError` where nobody can.
        """
        ...

    def scale_steps(self, members: Sequence[str], replicas: int) -> tuple[dict[str, Any], ...]:
        """The agent's steps that have only so many of a component's members run, until healing; ``members``: all.

        Raises `FaultError` where nobody can.
        """
        ...

    def deny_steps(self, members: Sequence[str], others: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """The agent's steps that let no member of a component open connections to others, which are all of another one,
        until healing.

        Raises `FaultError` where nobody can.
        """
        ...

    def rollout_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """The agent's steps that have all members of a component replaced one after the other.

        Raises `FaultError` where nobody can.
        """
        ...

    def kill_steps(self, members: Sequence[str], signal: str) -> tuple[dict[str, Any], ...]:
        """The agent's steps that end the servers of these members; ``signal``: ``KILL`` or ``TERM``."""
        ...

    def pause_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """The agent's steps that stop the processes of these members until healing."""
        ...

    def restart_steps(self, members: Sequence[str], delay_s: float, *, wiped: bool) -> tuple[dict[str, Any], ...]:
        """The agent's steps that end these members' servers and have the platform start others ``delay_s`` later;
        ``wiped``: on emptied data folders, which no server has run on by then. Raises `FaultError` where it cannot.
        """
        ...

    def hold_steps(self, members: Sequence[str]) -> tuple[dict[str, Any], ...]:
        """The agent's steps that hold the restart of these members back until healing.

        Raises `FaultError` where nobody can.
        """
        ...

    def partition_steps(self, member: str, others: Sequence[str], direction: str) -> tuple[dict[str, Any], ...]:
        """The agent's steps that drop packets between a member and others."""
        ...

    def pace(self, fault: FaultSpec, target: Target) -> Pace:
        """How long it takes with such a fault here."""
        ...

    def apply(self, injection: Mapping[str, Any], at_ns: At = at_once) -> Injected:
        """Hands an injection (JSON) to the agent, which prepares its probes; asks ``at_ns`` then, once, for a value of
        `time.monotonic_ns`, which has to be as far ahead as `pace` says, and has the agent begin at that instant.

        Raises `FaultError`; what was done by then has been undone.
        """
        ...

    def probe(self, injection_id: str) -> Proof:
        """Asks the agent whether the injection is in effect, from a third point of view. Raises `FaultError`."""
        ...

    def undo(self, injection_id: str, at_ns: int = 0) -> Undone:
        """Ends the injection at ``at_ns`` if it is asked so long before that as `pace` says; harmless if it has ended.

        Raises `FaultError` if it cannot be ended.
        """
        ...


@runtime_checkable
class Leading(Protocol):
    """A platform on which a PgBouncer's settings can be changed while it runs."""

    def lead_writes(self, pgbouncer: str, primary: str) -> None:
        """Has a PgBouncer lead writes to that member, once it has read its settings again and connects anew. Raises
        `StackError`.
        """
        ...


class AttachedPlatform(Platform, FaultCapable, Protocol):
    """The platform as every process of the run can have it, whoever brought it up."""


class Backend(Protocol):
    """A place where stacks run, as a process has it that stands in that place."""

    name: str

    @property
    def state(self) -> Path:
        """The folder by which other processes of the run attach to what this one brought up."""
        ...

    def up(self, stack: Stack, log_dir: Path) -> "OwnedPlatform":
        """Starts all members; returns when their processes run (not when they are ready). Raises `StackError`."""
        ...


class OwnedPlatform(AttachedPlatform, Protocol):
    """The platform in the hands of the process that brought it up."""

    @property
    def runner_address(self) -> str:
        """Where such a command reaches this process if it may stand under another kernel; "" where it never does."""
        ...

    def run_beside(self, name: str, argv: Sequence[str], log: Path) -> "Process":
        """Starts a command with the project's interpreter in a new member on the observer node."""
        ...

    def secret_file(self, name: str) -> Path:
        """The file that holds a secret of the stack, as such a command can read it."""
        ...

    def down(self) -> None:
        """Ends every member; harmless if they are gone. Raises `ExceptionGroup` with all that went wrong."""
        ...


class Process(Protocol):
    """A command that runs in the stack."""

    name: str

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        ...

    def interrupt(self) -> None:
        """Asks it to end (SIGTERM)."""
        ...

    def wait(self, timeout_s: float) -> int:
        """Waits for its end, kills it after the time-out; the exit code (negative: the signal's number)."""
        ...
