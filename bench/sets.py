"""Judging sets: ops a second of processor time by the whole checks of what is written once, to Redis and PostgreSQL.

The histories are made by rule: each op writes a value of its own to a key of its own, all are acknowledged, and all but
one are there in the end.

``python -m bench.sets CHECK OPS`` prints how many megabytes a check takes at most over a longer one.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from bench.columns import history_of, numbered
from bench.measure import ROOT, Figure, Place, peak_mb, peaks, rates
from resilience.check.durability.direct import DIRECT, direct
from resilience.check.durability.postgresql import ROWS, postgresql
from resilience.check.finding import Finding
from resilience.history.columns import CODE, DirectReads, TableRows
from resilience.history.read import History
from resilience.spec.read import read_scenario

OPS, MANY_OPS, SHARDS = 1_000_000, 10_000_000, 3
EVERY_US, AROUND_US = 100, 15_000
DIRECT_VALUE, ROW_VALUE = "direct-1-", "postgresql-1-"  # what values begin with: they are as long as a run has them


def figures(place: Place) -> Iterator[Figure]:
    """Ops a second, and memory. Raises `BenchError` if the one loss was not found, or anything else was."""
    for name, made in CHECKS.items():
        rate = rates(place, OPS, made(OPS))
        yield Figure(name=f"{name}, {OPS:,} ops", unit="ops/s", values=rate, aim="at least 1,000,000")
        yield peaks(place, "bench.sets", name, MANY_OPS)


def _redis(ops: int) -> Callable[[], int]:
    scenario, history = read_scenario(ROOT, "redis-failover"), in_redis(ops)
    return lambda: lost(direct(scenario, history), DIRECT.name)


def _postgresql(ops: int) -> Callable[[], int]:
    scenario, history = read_scenario(ROOT, "postgresql-baseline"), in_postgresql(ops)
    return lambda: lost(postgresql(scenario, history), ROWS.name)


CHECKS: Mapping[str, Callable[[int], Callable[[], int]]] = {
    "check of direct writes to Redis": _redis,
    "check of rows of PostgreSQL": _postgresql,
}


def lost(findings: tuple[Finding, ...], name: str) -> int:
    """How many acknowledged writes a check found lost."""
    return int(sum(finding.measures.get(f"{name}.lost_ops", 0) for finding in findings))


def in_redis(ops: int) -> History:
    """So many direct writes to the shards in turn, of which the middle one is gone."""
    groups = (np.arange(ops) % SHARDS + 1).astype(CODE)
    history = _written(ops, "direct.write", DIRECT_VALUE, keys=numbered("direct:{d1-2}:", ops), group=groups)
    stored = _stored(ops, DIRECT_VALUE)
    reads = DirectReads(**stored, group=groups[stored["key"]])
    return dataclasses.replace(history, audit=dataclasses.replace(history.audit, direct=reads, direct_lines=ops))


def in_postgresql(ops: int) -> History:
    """So many rows, of which the middle one is gone."""
    history = _written(ops, "postgresql.write", ROW_VALUE, keys=numbered("pg:", ops))
    source = np.zeros(ops, dtype=CODE)
    rows = TableRows(**_stored(ops, ROW_VALUE), source=source, sources=(("postgresql-primary-0", 1),))
    return dataclasses.replace(history, audit=dataclasses.replace(history.audit, rows=rows))


def _stored(ops: int, prefix: str) -> dict[str, Any]:
    """What the audit has of each key, in an order that has nothing to do with that of the ops."""
    key = np.random.default_rng(2).permutation(np.arange(ops, dtype=np.int32))
    value, there = numbered(prefix, ops)[key], key != ops // 2
    value[~there] = ""
    return {"key": key, "value": value, "there": there}


def _written(ops: int, kind: str, prefix: str, **columns: Any) -> History:
    called = np.arange(ops, dtype=np.int64) * EVERY_US
    took = np.random.default_rng(1).integers(1, AROUND_US, ops)
    return history_of(
        ops,
        kinds=(kind,),
        key=np.arange(ops, dtype=np.int32),
        value=numbered(prefix, ops),
        called=called,
        returned=called + took,
        **columns,
    )


def main() -> int:
    """The memory of one check."""
    print(peak_mb(CHECKS[sys.argv[1]](int(sys.argv[2]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
