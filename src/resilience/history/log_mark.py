"""What in a server's own log says that it crashed, that its data is damaged, or that memory or disk ran out.

A mark is one kind of line of one kind of server, in the words and the form of that server's own source: a pattern
begins at the line's beginning, so that what a client made a server quote (a key, a statement, a queue's name) is none.

What is left out on purpose, since it is normal: how PostgreSQL finds the end of its WAL (``unexpected pageaddr``,
``invalid record length``, ``incorrect resource manager data checksum``), what its backends say as their server is
killed (``terminating connection due to unexpected postmaster exit``) and its hint that data *might* be corrupted; that
Redis cuts the torn end off its append only file; what RabbitMQ says of nodes and connections that are gone. The frame
of Redis' crash report has no instant, the line in it that names the signal has, so that one is the mark.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["crash", "damage", "exhausted", "traceback"]
Server = Literal["redis", "postgresql", "rabbitmq", "pgbouncer", "etcd", "service"]

_REDIS = r"\d+:[A-Z] \d\d \w{3} \d{4} [\d:.]+ [#*.-] "
_POSTGRESQL = r"[\d-]+ [\d:.]+ \S+ \[\d+\] (?:\S+@\S+ )?(?:LOG|WARNING|ERROR|FATAL|PANIC):  "
_RABBITMQ = r"(?:\x1b\[[\d;]*m)?[\d-]+ [\d:.]+\+\d\d:\d\d \[\w+\] <[\d.]+> +"
_PGBOUNCER = r"[\d-]+ [\d:.]+ \S+ \[\d+\] "
_NO_ROOM = "No space left on device|Cannot allocate memory"
_CHECKSUM = (
    "wal_checksum_validation_failure|checksum_error|corrupt_log|bad_crc|crc validation failure"
    "|Multiple corrupted chunks in segment"
)
_FULL = f"(?:{_NO_ROOM})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One of ``literals`` is in each line that the pattern matches; ``anyone``: a fault of others may explain it."""

    server: Server
    kind: Kind
    says: str
    literals: tuple[bytes, ...]
    pattern: re.Pattern[str]
    anyone: bool = False


def _mark(server: Server, kind: Kind, says: str, literals: str, pattern: str, *, anyone: bool = False) -> Mark:
    """A mark; ``literals`` are separated by ``|``."""
    texts = tuple(literals.encode().split(b"|"))
    return Mark(server=server, kind=kind, says=says, literals=texts, pattern=re.compile(pattern), anyone=anyone)


MARKS: tuple[Mark, ...] = (
    # redis: debug.c, rdb.c, aof.c, server.c, cluster_legacy.c
    _mark("redis", "exhausted", "no room", f"Out Of Memory|{_NO_ROOM}",
          rf"{_REDIS}(?:Out Of Memory allocating|.*: {_FULL}$)"),
    _mark("redis", "crash", "crashed by a signal", " crashed by signal: ",
          rf"{_REDIS}Redis \S+ crashed by signal: \d+"),
    _mark("redis", "crash", "failed assertion", "ASSERTION FAILED ===", rf"{_REDIS}=== .*ASSERTION FAILED ==="),
    _mark("redis", "crash", "panicked", "Guru Meditation: ", rf"{_REDIS}Guru Meditation: "),
    _mark("redis", "damage", "append only file", "append only file ",
          rf"{_REDIS}(?:Bad file format|Unexpected end of file) reading the append only file "),
    _mark("redis", "damage", "append only file", "truncated file is not the last",
          rf"{_REDIS}Fatal error: the truncated file is not the last file"),
    _mark("redis", "damage", "checksum of a snapshot", "Wrong RDB checksum", rf"{_REDIS}Wrong RDB checksum expected"),
    _mark("redis", "damage", "cluster's configuration", "corrupted cluster config",
          rf"{_REDIS}Unrecoverable error: corrupted cluster config file"),
    # a replica says these of a snapshot, too, whose sender dies
    _mark("redis", "damage", "snapshot", "Internal error in RDB", rf"{_REDIS}Internal error in RDB", anyone=True),
    _mark("redis", "damage", "snapshot", "Short read or OOM", rf"{_REDIS}Short read or OOM loading DB", anyone=True),
    # PostgreSQL: postmaster.c, bufpage.c, bufmgr.c, md.c, toast_compression.c, nbtpage.c
    _mark("postgresql", "exhausted", "no room", f"out of memory|{_NO_ROOM}",
          rf"{_POSTGRESQL}(?:out of memory|.*: {_FULL}$)"),
    _mark("postgresql", "crash", "panicked", "PANIC:  ", rf"{_POSTGRESQL.replace('LOG|WARNING|ERROR|FATAL|', '')}"),
    _mark("postgresql", "crash", "process ended by a signal", ") was terminated by signal ",
          rf"{_POSTGRESQL}.* \(PID \d+\) was terminated by signal \d+"),
    _mark("postgresql", "crash", "process ended", "terminating any other active",
          rf"{_POSTGRESQL}terminating any other active server processes"),
    _mark("postgresql", "damage", "page", "invalid page in block", rf"{_POSTGRESQL}invalid page in block \d+"),
    _mark("postgresql", "damage", "checksum of a page", "page verification failed",
          rf"{_POSTGRESQL}page verification failed, calculated checksum"),
    _mark("postgresql", "damage", "unreadable page", "could not read block",
          rf"{_POSTGRESQL}could not read blocks? \d"),
    _mark("postgresql", "damage", "data", "missing chunk number", rf"{_POSTGRESQL}missing chunk number \d"),
    _mark("postgresql", "damage", "data", "corrupt",
          rf"{_POSTGRESQL}(?:compressed \w+ data is corrupt|index \".*\" contains corrupted page|corrupted "
          r"|[\w -]+ corrupted$)"),
    # Erlang: init, proc_lib, supervisor, erl_alloc.c; RabbitMQ: rabbit_alarm, ra, osiris
    _mark("rabbitmq", "exhausted", "alarm", "resource limit alarm set",
          rf"{_RABBITMQ}(?:memory|disk) resource limit alarm set on node"),
    _mark("rabbitmq", "exhausted", "no room", "alloc: Cannot ", r"\w+_alloc: Cannot (?:re)?allocate \d+ bytes"),
    _mark("rabbitmq", "crash", "virtual machine ended", "Kernel pid terminated", r"Kernel pid terminated"),
    _mark("rabbitmq", "crash", "virtual machine ended", "Runtime terminating during boot",
          r"Runtime terminating during boot"),
    _mark("rabbitmq", "damage", "checksum", _CHECKSUM, rf"{_RABBITMQ}.*\b(?:{_CHECKSUM})\b"),
    _mark("rabbitmq", "damage", "segment", "has invalid header", rf"{_RABBITMQ}Deleting invalid v2 segment file"),
    # a process of Erlang's ends with whom it talked to, and its supervisor starts another
    _mark("rabbitmq", "crash", "process crashed", "crasher:", rf"{_RABBITMQ}crasher:", anyone=True),
    _mark("rabbitmq", "crash", "process crashed", "CRASH REPORT", rf"{_RABBITMQ}.*CRASH REPORT", anyone=True),
    _mark("rabbitmq", "crash", "supervisor gave up", "reached_max_restart_intensity",
          rf"{_RABBITMQ}reason: reached_max_restart_intensity", anyone=True),
    # PgBouncer (libusual): FATAL is what it ends with
    _mark("pgbouncer", "exhausted", "no memory", "out of memory|no mem",
          rf"{_PGBOUNCER}\w+ .*(?:out of memory|no mem(?:ory)?\b)"),
    _mark("pgbouncer", "crash", "fatal error", "FATAL ", rf"{_PGBOUNCER}FATAL "),
    # etcd (zap, bbolt's quota, raft's log) and Go's runtime
    _mark("etcd", "exhausted", "no room", "database space exceeded|no space left",
          r"\{.*(?:database space exceeded|no space left on device)"),
    _mark("etcd", "damage", "data", "crc mismatch|data inconsistency",
          r"(?:\{|panic: ).*(?:crc mismatch|found data inconsistency)"),
    _mark("etcd", "crash", "panicked", '"level":"', r'\{"level":"(?:panic|fatal)"'),
    _mark("etcd", "crash", "panicked", "panic: ", r"panic: "),
    _mark("etcd", "crash", "runtime failed", "fatal error: ", r"fatal error: "),
    # services: Python's interpreter, and Go's for one in its place
    _mark("service", "exhausted", "no room", f"MemoryError|{_NO_ROOM}", rf"(?:MemoryError\b|OSError: .*{_FULL})"),
    _mark("service", "crash", "interpreter failed", "Fatal Python error: ", r"Fatal Python error: "),
    _mark("service", "crash", "panicked", "panic: ", r"panic: "),
    _mark("service", "crash", "runtime failed", "fatal error: ", r"fatal error: "),
    _mark("service", "traceback", "ended with a traceback", "Traceback (most recent", r"Traceback \(most recent call"),
)  # fmt: skip

_LITERALS = tuple(dict.fromkeys(text for mark in MARKS for text in mark.literals))


def may_have_marks(block: bytes) -> bool:
    """Whether any line of a block may have a mark: a look at the block as a whole, which takes a tenth of the time."""
    return any(text in block for text in _LITERALS)


def marks_in(line: bytes) -> list[Mark]:
    """What a line of a log would say, of each kind of server at most one thing."""
    near = [mark for mark in MARKS if any(text in line for text in mark.literals)]
    if not near:
        return []
    text = line.decode(errors="replace").rstrip("\r\n")
    found: dict[Server, Mark] = {}
    for mark in near:
        if mark.server not in found and mark.pattern.match(text):
            found[mark.server] = mark
    return list(found.values())
