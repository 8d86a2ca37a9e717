"""The names of the events of a run, and what their ``data`` holds; who writes each is in brackets.

What checks and reports rely on is a record below: an event that does not fit is damage of the history (`flaw`), so
that nobody who reads a history has to doubt it.

- ``stack-up``: ``took_s``; [runner] the stack answered its first good request
- ``shards``: ``shards``: list of {``group``, ``primary``, ``replicas``: addresses as ``host:port``, ``slots``: [[first,
  last], …]} at start [runner]
- ``patroni``: by what PostgreSQL fails over, where Patroni does it: ``config`` (its own words: ``ttl``, ``loop_wait``,
  ``retry_timeout`` in seconds, ``maximum_lag_on_failover`` in bytes and more), ``members``: who told it; at start
  [runner]
- ``takeovers``: whom Patroni made PostgreSQL's primary, by its own record in etcd: ``takeovers``: list of
  {``timeline``: that began so, ``member``}; after healing; missing where no member told it [runner]
- ``load-started``: ``clients``: names of the client processes; ``boot_id`` of the runner's kernel, by whose clock all
  instants are [runner]
- ``clock-compared``: ``process``; ``boot_id`` of its kernel; ``offset_us``: how far the instants that it records are
  ahead of the runner's, give or take ``error_us``; both are missing where that could not be measured [each client, at
  its start; under another kernel than the runner's each minute and at its end, too; chaos, of the agent that an
  injection's instants are from]
- ``load-stopped``: ``clients``: {name: {``exit``, ``torn``}} [runner]
- ``phase-announced``: ``phase``, ``starts_at``: the instant (us) that the generators were told [whoever announces]
- ``injecting``: ``injection``: the `Injection` as JSON; written before anything is touched [chaos]
- ``injected``: ``injection`` (id), ``began_us``, ``applied_us``, ``members``, ``nodes`` [chaos]
- ``effect-probed``: ``injection`` (id), ``when``: ``injected`` or ``before-heal``, ``in_effect``: bool,
  ``evidence``: list of {``what``, ``expected``, ``observed``, ``ok``} [chaos]
- ``healing``: ``injection`` (id) [chaos]
- ``healed``: ``injection`` (id), ``healed``: bool, ``by``: ``request``, ``ttl`` or ``rollback``, ``began_us``: when its
  undoing began (older records do not say), ``healed_us``: when that had ended, ``evidence`` as above [chaos, agent's
  answer]
- ``stopping``: an operator is about to stop a ``member`` of PostgreSQL: ``why`` (``fenced``, ``turned back``),
  ``within_s``: how long it may take until it has ended; here and below ``began_us``: when the operator began [chaos]
- ``fenced``: ``members``: who took writes and were seen to stop; ``seen``: what one look after the other showed;
  ``began_us`` (older records do not say, and name all of a step at its end) [chaos]
- ``promoting``, ``promoted``: before and after a standby of PostgreSQL was promoted by hand: ``member``, ``former``
  (the primary before), ``fenced``: bool, ``timeline_before``, ``began_us``; before it also ``former_seen``: what was
  seen of the former primary [chaos; older records have neither]
- ``promotion``: all of that runbook: ``member``, ``former``, ``former_seen``, ``fenced``, ``timeline_before``,
  ``timeline``, ``lag_bytes``, ``following``, ``led``, ``unreached``, ``turned_back`` (see
  `stack.postgresql_failover.Promotion`), ``operator_delay_s``, ``began_us``, ``led_us``: when everybody had been led to
  it, ``proved``: bool, ``evidence`` as above [chaos]
- ``rejoined``: ``members``: who was fenced beside PostgreSQL's ``primary``; ``began_us``, ``proved``: bool,
  ``evidence`` as above [chaos]
- ``cancelling``: so many ``backends`` of PostgreSQL's primary ``member`` that waited for a standby were cancelled just
  now; ``began_us`` [chaos]
- ``cancelled``: all of them: ``member``, ``backends``: how many, ``began_us`` to ``ended_us``, ``proved``: bool,
  ``evidence`` as above [chaos]
- ``step-failed``: an operator's ``step`` (``promote``, ``rejoin``, ``cancel_waiting``) was given up, or is not seen to
  be true: ``reason``, ``began_us`` [chaos]
- ``no-target``: ``target``: nothing matched at injection time, nothing was touched [chaos]
- ``experiment``: ``status``, ``deviated``, ``exit``, ``failed``: names of activities that failed [runner, from the
  journal]
- ``role``: ``member``, ``group``, ``role`` (``primary``, ``replica``, ``unreachable``, ``stray``: it answers and has
  no slots), ``epoch``; each member's own statement; ``group`` is the shard, 0 of PostgreSQL's members [runner's watch]
- ``came-back``: ``member`` of PostgreSQL whose server was started again, ``by``: ``pg_rewind``, ``a copy`` of the
  primary, ``its own data``, or ``a new database``; the server's own statement, which Patroni's make none of [runner's
  watch]
- ``queue-role``: ``queue`` of RabbitMQ; ``leader``: a member, "" if nobody is known to be; ``copies``: the members that
  hold one, ``online``: those of them that take part; as most of the members say that answer, all of it empty where none
  does [runner's watch]
- ``failing``: ``member`` (whom), ``by`` (who says it), ``flag``: ``fail?``, ``fail`` or ``ok`` [runner's watch]
- ``member``: ``member``, ``what``: ``started``, ``exited``, ``restarted``, ``held``, ``released``; ``pid``,
  ``code``; of an end that was heard of later: ``late_us`` before the event at the latest, ``unsure_us`` before that at
  the earliest [backend]
- ``node``: ``node``, ``what``: ``not-ready``, ``ready``: what the cluster takes it for [backend, in a cluster]
- ``converged``: ``ok``: bool, ``took_s``, ``reason`` [runner]
- ``queues``: what the members of RabbitMQ said of their queues then, as `history.queues.QueuesSeen` has it [runner]
- ``replicas``: ``compared``: keys by replica, ``differing``, ``examples``, ``evicted``: keys by member, ``reasons``
  [runner]
- ``copies``: of PostgreSQL's members after the load: ``primary`` ("": nobody was found to be it), ``timeline``,
  ``written``: how far that had come, in bytes of WAL; ``members``: {name: {``timeline``, ``replayed``, ``tables``:
  {name: {``rows``, ``digest``}}}} (in older records ``rows`` and ``digest`` of the table ``written`` alone),
  ``reasons`` [runner]
- ``audit-incomplete``: ``reason``: what could not be read back; that the platform does not answer is no error of the
  harness; ``store``: a `history.record.AuditKind`, missing where it was Redis' audit [runner]
- ``pressure``: ``cpu_some_ratio``, ``steal_ratio``, ``busy_ratio`` over the second before, of the whole machine;
  ``cpus``: how many cores it has [runner]
- ``generator``: ``client``, ``cpu_ratio``, ``lag_ms_p99``, ``inflight`` over the second before [runner, from the
  generators]
- ``taking-down``: nothing; from here on the members are ended, and what they say of that is no matter [runner; older
  records do not say]
- ``interrupted``: ``signal`` [runner]
- ``ended``: nothing; the stack is down and nothing follows; a record without it was cut short [runner]
- ``error``: ``where``, ``message``: something of the harness went wrong; the run is judged on what there is
  [runner]
"""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from resilience.history.queues import QueuesSeen
from resilience.history.record import Event, Instant

NAMES = frozenset({
    "stack-up", "shards", "patroni", "load-started", "load-stopped", "clock-compared", "phase-announced", "injecting",
    "injected", "effect-probed", "healing", "healed", "no-target", "experiment", "role", "came-back", "queue-role",
    "failing", "member", "node", "converged", "stopping", "fenced", "promoting", "promoted", "promotion", "rejoined",
    "cancelling", "cancelled", "step-failed", "takeovers", "queues", "replicas", "copies", "audit-incomplete",
    "pressure", "generator", "taking-down", "interrupted", "error", "ended",
})  # fmt: skip

Group = Annotated[int, Meta(ge=-1, le=1_000_000)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]


class _Prelude(msgspec.Struct):
    members: tuple[str, ...] = ()
    for_s: Annotated[float, Meta(ge=0, le=3_600)] = 0.0


class _Injection(msgspec.Struct):
    id: str
    members: tuple[str, ...] = ()
    prelude: _Prelude | None = None


class _Injecting(msgspec.Struct):
    injection: _Injection


class _Injected(msgspec.Struct):
    injection: str
    began_us: Instant
    applied_us: Instant
    members: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class _Healed(msgspec.Struct):
    injection: str
    healed: bool = False
    began_us: Instant | UnsetType = UNSET
    healed_us: Instant | UnsetType = UNSET
    evidence: tuple[dict[str, Any], ...] | None = None


class _Stopping(msgspec.Struct):
    member: str
    within_s: Annotated[float, Meta(ge=0, le=3_600)]


class _Promoted(msgspec.Struct):
    member: str
    began_us: Instant


class _StepFailed(msgspec.Struct):
    step: str
    reason: str


class _Promotion(msgspec.Struct):
    member: str
    former: str
    timeline: int
    began_us: Instant
    led_us: Instant
    operator_delay_s: Annotated[float, Meta(ge=0, le=3_600)]
    fenced: bool = False
    turned_back: tuple[str, ...] = ()
    proved: bool = False
    evidence: tuple[dict[str, Any], ...] = ()


class _Cancelled(msgspec.Struct):
    member: str
    backends: Count
    began_us: Instant
    ended_us: Instant
    proved: bool = False
    evidence: tuple[dict[str, Any], ...] = ()


class _Fenced(msgspec.Struct):
    members: tuple[str, ...] = ()
    began_us: Instant | UnsetType = UNSET


class _Probed(msgspec.Struct):
    injection: str
    in_effect: bool = False
    evidence: tuple[dict[str, Any], ...] | None = None


_Address = Annotated[str, Meta(pattern=r"^.+:[0-9]+$")]  # who is there is told by ``role``, and by that alone


class _Shard(msgspec.Struct):
    group: Group
    primary: _Address
    replicas: tuple[_Address, ...] = ()


class _Shards(msgspec.Struct):
    shards: tuple[_Shard, ...] = ()


class _PatroniConfig(msgspec.Struct):
    ttl: Seconds
    loop_wait: Seconds
    retry_timeout: Seconds


class _Patroni(msgspec.Struct):
    config: _PatroniConfig
    members: tuple[str, ...] = ()


class _Takeover(msgspec.Struct):
    timeline: Count
    member: str


class _Takeovers(msgspec.Struct):
    takeovers: tuple[_Takeover, ...]


class _Role(msgspec.Struct):
    member: str = ""
    group: Group = 0
    role: str = ""
    epoch: Annotated[int, Meta(ge=-1, le=2**63 - 1)] = 0


class _CameBack(msgspec.Struct):
    member: str
    by: str


class _QueueRole(msgspec.Struct):
    queue: str
    leader: str
    copies: tuple[str, ...]
    online: tuple[str, ...]


class _Failing(msgspec.Struct):
    member: str = ""
    flag: str = ""


class _LoadStarted(msgspec.Struct):
    clients: tuple[str, ...] = ()
    boot_id: str = ""


class _ClockCompared(msgspec.Struct):
    process: str
    boot_id: str
    offset_us: Instant | UnsetType = UNSET
    error_us: Count | UnsetType = UNSET


class _LoadStopped(msgspec.Struct):
    clients: dict[str, dict[str, Any]] = {}


class _Experiment(msgspec.Struct):
    deviated: bool
    status: str = ""
    failed: tuple[str, ...] = ()


class _Converged(msgspec.Struct):
    ok: bool
    took_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


class _Replicas(msgspec.Struct):
    compared: dict[str, Count] = {}
    differing: Count = 0
    examples: tuple[dict[str, Any], ...] = ()
    evicted: dict[str, Count] = {}


class _Held(msgspec.Struct):
    rows: Count
    digest: str


class _Copy(msgspec.Struct):
    timeline: Count
    replayed: Count | None = None
    tables: dict[str, _Held] | UnsetType = UNSET
    rows: Count = 0
    digest: str = ""


class _Copies(msgspec.Struct):
    primary: str = ""
    timeline: Count = 0
    written: Count = 0
    members: dict[str, _Copy] = {}
    reasons: tuple[str, ...] = ()


class _Member(msgspec.Struct):
    member: str
    what: str
    late_us: Count = 0
    unsure_us: Count = 0


class _Pressure(msgspec.Struct):
    busy_ratio: float
    cpus: Count = 0


class _Generator(msgspec.Struct):
    client: str
    cpu_ratio: float


_DATA: dict[str, type[msgspec.Struct]] = {
    "injecting": _Injecting,
    "injected": _Injected,
    "healed": _Healed,
    "effect-probed": _Probed,
    "cancelled": _Cancelled,
    "stopping": _Stopping,
    "promoted": _Promoted,
    "promotion": _Promotion,
    "step-failed": _StepFailed,
    "fenced": _Fenced,
    "shards": _Shards,
    "patroni": _Patroni,
    "takeovers": _Takeovers,
    "role": _Role,
    "came-back": _CameBack,
    "queue-role": _QueueRole,
    "failing": _Failing,
    "member": _Member,
    "load-started": _LoadStarted,
    "clock-compared": _ClockCompared,
    "load-stopped": _LoadStopped,
    "experiment": _Experiment,
    "converged": _Converged,
    "queues": QueuesSeen,
    "replicas": _Replicas,
    "copies": _Copies,
    "pressure": _Pressure,
    "generator": _Generator,
}


def ended_between(event: Event) -> tuple[int, int]:
    """The earliest and the latest instant that the end may have been at that an event ``member`` tells of."""
    latest = event.at - event.data.get("late_us", 0)
    return latest - event.data.get("unsure_us", 0), latest


def flaw(event: Event) -> str:
    """What of an event's data is not as it has to be, "" if all is; data that nobody relies on is not looked at."""
    kind = _DATA.get(event.name)
    if kind is None:
        return ""
    try:
        msgspec.convert(event.data, kind)
    except msgspec.ValidationError as error:
        return f"event {event.name!r} at {event.at}: {error}"
    return ""
