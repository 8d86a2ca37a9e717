"""What lines of servers' logs say: those that tell of a crash, damage or want, and those that do not."""

import pytest

from resilience.history.log_mark import MARKS, marks_in

REDIS = "23:M 30 Nov 2026 14:54:46.510"
POSTGRESQL = "2026-11-30 14:48:33.414 UTC [195]"
RABBITMQ = "2026-11-30 12:20:49.630206+00:00"
PGBOUNCER = "2026-11-30 14:48:33.414 UTC [23]"
SERVICE = "2026-11-30 14:54:48,460"

# what is between the words is as the servers' own sources print it
TOLD = (
    ("redis", "crash", f"{REDIS} # Redis 8.0.2 crashed by signal: 11, si_code: 0"),
    ("redis", "crash", f"{REDIS} # === ASSERTION FAILED ==="),
    ("redis", "crash", f"{REDIS} # === REDIS ASSERTION FAILED ==="),
    ("redis", "crash", f"{REDIS} # Guru Meditation: Unknown RDB object type #rdb.c:1234"),
    ("redis", "exhausted", f"{REDIS} # Out Of Memory allocating 34359738360 bytes!"),
    ("redis", "exhausted", f"{REDIS} # Can't save in background: fork: Cannot allocate memory"),
    ("redis", "exhausted", f"{REDIS} # Error writing to the AOF file: No space left on device"),
    ("redis", "damage", f"{REDIS} # Bad file format reading the append only file appendonly.aof.1.incr.aof"),
    ("redis", "damage", f"{REDIS} # Unexpected end of file reading the append only file a.aof. You can: 1) Make a"),
    ("redis", "damage", f"{REDIS} # Fatal error: the truncated file is not the last file"),
    ("redis", "damage", f"{REDIS} # Wrong RDB checksum expected: (1) but got (2). Aborting now."),
    ("redis", "damage", f'{REDIS} # Unrecoverable error: corrupted cluster config file "nodes.conf".'),
    ("redis", "damage", f"{REDIS} # Internal error in RDB reading offset 9, function at rdb.c:1 -> x"),
    ("redis", "damage", f"{REDIS} # Short read or OOM loading DB. Unrecoverable error, aborting now."),
    ("postgresql", "crash", f"{POSTGRESQL} PANIC:  could not locate a valid checkpoint record at 0/3000028"),
    ("postgresql", "crash", f"{POSTGRESQL} a@b PANIC:  stuck spinlock detected"),
    ("postgresql", "crash",
     f"{POSTGRESQL} LOG:  client backend (PID 61) was terminated by signal 11: Segmentation fault"),
    ("postgresql", "crash", f"{POSTGRESQL} LOG:  terminating any other active server processes"),
    ("postgresql", "exhausted", f"{POSTGRESQL} harmonyflow@harmonyflow ERROR:  out of memory"),
    ("postgresql", "exhausted", f'{POSTGRESQL} ERROR:  could not extend file "base/5/1": No space left on device'),
    ("postgresql", "damage", f"{POSTGRESQL} a@b ERROR:  invalid page in block 3 of relation base/5/16384"),
    ("postgresql", "damage",
     f"{POSTGRESQL} WARNING:  page verification failed, calculated checksum 1 but expected 2"),
    ("postgresql", "damage", f'{POSTGRESQL} ERROR:  could not read blocks 3..3 in file "base/5/1": I/O error'),
    ("postgresql", "damage", f'{POSTGRESQL} ERROR:  could not read block 3 in file "base/5/1": read only 0 bytes'),
    ("postgresql", "damage", f"{POSTGRESQL} ERROR:  missing chunk number 0 for toast value 1 in pg_toast_2"),
    ("postgresql", "damage", f"{POSTGRESQL} ERROR:  compressed pglz data is corrupt"),
    ("postgresql", "damage", f'{POSTGRESQL} ERROR:  index "rows_pkey" contains corrupted page at block 2'),
    ("postgresql", "damage", f"{POSTGRESQL} ERROR:  corrupted line pointer: 7"),
    ("postgresql", "damage", f"{POSTGRESQL} ERROR:  shared buffer hash table corrupted"),
    ("rabbitmq", "crash", f"{RABBITMQ} [error] <0.151.0>   crasher:"),
    ("rabbitmq", "crash", f"\x1b[38;5;160m{RABBITMQ} [error] <0.151.0>   crasher:\x1b[0m"),
    ("rabbitmq", "crash", f"{RABBITMQ} [error] <0.151.0> CRASH REPORT Process <0.151.0> with 0 neighbours exited"),
    ("rabbitmq", "crash", f"{RABBITMQ} [error] <0.480.0>     reason: reached_max_restart_intensity"),
    ("rabbitmq", "crash", 'Kernel pid terminated (application_controller) ("{application_start_failure,rabbit,x}")'),
    ("rabbitmq", "crash", "Runtime terminating during boot (x)"),
    ("rabbitmq", "exhausted", f"{RABBITMQ} [warning] <0.5.0> disk resource limit alarm set on node rabbit@rabbitmq-0."),
    ("rabbitmq", "exhausted", f"{RABBITMQ} [warning] <0.5.0> memory resource limit alarm set on node rabbit@a."),
    ("rabbitmq", "exhausted", 'eheap_alloc: Cannot allocate 1318267840 bytes of memory (of type "heap").'),
    ("rabbitmq", "damage", f"{RABBITMQ} [error] <0.5.0> ** {{wal_checksum_validation_failure,x}}"),
    ("rabbitmq", "damage", f"{RABBITMQ} [warning] <0.5.0> crc validation failure at chunk id 7data size 9:"),
    ("rabbitmq", "damage", f"{RABBITMQ} [warning] <0.5.0> Multiple corrupted chunks in segment file x"),
    ("rabbitmq", "damage",
     f"{RABBITMQ} [warning] <0.5.0> Deleting invalid v2 segment file 1.qi (file has invalid header)"),
    ("pgbouncer", "crash", f"{PGBOUNCER} FATAL unix socket is in use, cannot continue"),
    ("pgbouncer", "exhausted", f"{PGBOUNCER} WARNING launch_new_connection: no memory"),
    ("etcd", "crash", '{"level":"panic","ts":"2021-06-01T15:14:44.907Z","msg":"tocommit(7)"}'),
    ("etcd", "crash", '{"level":"fatal","ts":"2021-06-01T15:14:44.907Z","msg":"x"}'),
    ("etcd", "crash", "panic: tocommit(7) is out of range [lastIndex(0)]"),
    ("etcd", "crash", "fatal error: runtime: cannot allocate memory"),
    ("etcd", "damage", '{"level":"fatal","ts":"2021-06-01T15:14:44.907Z","error":"wal: crc mismatch"}'),
    ("etcd", "damage", '{"level":"error","ts":"2021-06-01T15:14:44.907Z","msg":"found data inconsistency with peers"}'),
    ("etcd", "exhausted", '{"level":"warn","ts":"2021-06-01T15:14:44.907Z","error":"mvcc: database space exceeded"}'),
    ("service", "crash", "Fatal Python error: Segmentation fault"),
    ("service", "crash", "panic: runtime error: invalid memory address or nil pointer dereference"),
    ("service", "crash", "fatal error: all goroutines are asleep - deadlock!"),
    ("service", "exhausted", "MemoryError"),
    ("service", "exhausted", "OSError: [Errno 28] No space left on device"),
    ("service", "traceback", "Traceback (most recent call last):"),
)  # fmt: skip

# as they stand in the logs of runs that passed, or as a client can have a server say them
NORMAL = (
    f"{REDIS} * Background AOF rewrite terminated with success",
    f"{REDIS} # WARNING Memory overcommit must be enabled! Without it, a background save may fail under low memory",
    f"{REDIS} # !!! Warning: short read while loading the AOF file !!!",
    f"{REDIS} # Failed to read response from the server: Success",
    f"{REDIS} - Client closed connection id=3 name=x crashed by signal: 11",
    "\n=== REDIS BUG REPORT START: Cut & paste starting from here ===",
    f"{POSTGRESQL} LOG:  invalid record length at 0/30000D8: expected at least 24, got 0",
    f"{POSTGRESQL} LOG:  unexpected pageaddr 0/1000000 in WAL segment 000000010000000000000005",
    f"{POSTGRESQL} LOG:  incorrect resource manager data checksum in record at 0/30000D8",
    f"{POSTGRESQL} a@b FATAL:  terminating connection due to unexpected postmaster exit",
    f"{POSTGRESQL} HINT:  If this has occurred more than once some data might be corrupted",
    f"{POSTGRESQL} FATAL:  could not receive data from WAL stream: server closed the connection unexpectedly",
    "\t\tThis probably means the server terminated abnormally",
    f"{POSTGRESQL} a@b STATEMENT:  INSERT INTO t VALUES ('PANIC:  corrupted line pointer: 1')",
    f'{POSTGRESQL} a@b ERROR:  syntax error at or near "PANIC:  "',
    "\tPANIC:  of a statement's second line",
    'pg_rewind: executing "postgres" for target server to complete crash recovery',
    f"{RABBITMQ} [info] <0.1.0> Running boot step rabbit_alarm defined by app rabbit",
    f"{RABBITMQ} [debug] <0.1.0>     supervisor: {{local,kernel_safe_sup}}",
    f"{RABBITMQ} [info] <0.1053.0> node 'rabbit@rabbitmq-0' down: connection_closed",
    f"{RABBITMQ} [info] <0.1.0> queue 'crasher:' in vhost 'harmonyflow': Leader monitor down",
    f"{RABBITMQ} [warning] <0.1.0> memory resource limit alarm cleared on node rabbit@a",
    f"{PGBOUNCER} LOG S-0x7: harmonyflow/harmonyflow@198.18.1.9:5432 closing because: server conn crashed? (age=9s)",
    f"{PGBOUNCER} WARNING C-0x7: h/h@198.18.4.15:9 pooler error: server login has been failing",
    '{"level":"warn","ts":"2021-06-01T15:14:44.907Z","msg":"prober detected unhealthy status"}',
    f"{SERVICE} ERROR panic: not at the line's beginning",
)  # fmt: skip


@pytest.mark.parametrize(("server", "kind", "line"), TOLD, ids=lambda part: part[:60])
def test_it_is_told(server: str, kind: str, line: str) -> None:
    assert (server, kind) in {(mark.server, mark.kind) for mark in marks_in(f"{line}\n".encode())}


@pytest.mark.parametrize("line", NORMAL, ids=lambda line: line[:60])
def test_it_is_normal(line: str) -> None:
    assert marks_in(f"{line}\n".encode()) == []


def test_each_mark_has_a_line_that_shows_it() -> None:
    shown = {mark for _, _, line in TOLD for mark in marks_in(line.encode())}
    assert shown == set(MARKS)


def test_what_is_no_text_says_nothing() -> None:
    assert marks_in(bytes(range(256))) == []
