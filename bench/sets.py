"""Judging sets: ops a second of processor time by the whole checks of what is written once, to Redis and PostgreSQL.

The histories are made by rule: each op writes a value of its own to a key of its own, all are acknowledged, and all but
one are there in the end.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.columns import history_of
from bench.measure import ROOT, Figure, Place, rates
from resilience.check.durability.direct import DIRECT, direct
from resilience.check.durability.postgresql import ROWS, postgresql
from resilience.check.finding import Finding
from resilience.history.columns import TableRows, text_array
from resilience.history.read import History
from resilience.spec.read import read_scenario

OPS, SHARDS = 1_000_000, 3
EVERY_US, AROUND_US = 100, 15_000


def figures(place: Place) -> Iterator[Figure]:
    """Ops a second. Raises `BenchError` if the one loss was not found, or anything else was."""
    redis, in_shards = read_scenario(ROOT, "redis-failover"), in_redis(OPS)
    yield _figure("direct writes to Redis", lambda: lost(direct(redis, in_shards), DIRECT.name), place)
    postgres, in_table = read_scenario(ROOT, "postgresql-baseline"), in_postgresql(OPS)
    yield _figure("rows of PostgreSQL", lambda: lost(postgresql(postgres, in_table), ROWS.name), place)


def _figure(noun: str, found: Callable[[], int], place: Place) -> Figure:
    name = f"check of {noun}, {OPS:,} ops"
    return Figure(name=name, unit="ops/s", values=rates(place, OPS, found), aim="at least 1,000,000")


def lost(findings: tuple[Finding, ...], name: str) -> int:
    """How many acknowledged writes a check found lost."""
    return int(sum(finding.measures.get(f"{name}.lost_ops", 0) for finding in findings))


def in_redis(ops: int) -> History:
    """So many direct writes to the shards in turn, of which the middle one is gone."""
    keys, values, gone = _keys(ops), _values(ops), ops // 2
    groups = np.arange(ops, dtype=np.int32) % SHARDS + 1
    history = _written(
        ops, kinds=("direct.write",), keys=text_array(list(keys)), value=text_array(values), group=groups
    )
    stored: dict[str, str | None] = dict(zip(keys, values, strict=True)) | {keys[gone]: None}
    audit = dataclasses.replace(
        history.audit, direct=stored, direct_groups=dict(zip(keys, groups.tolist(), strict=True)), direct_lines=ops
    )
    return dataclasses.replace(history, audit=audit)


def in_postgresql(ops: int) -> History:
    """So many rows, of which the middle one is gone."""
    keys, values, there = _keys(ops), _values(ops), np.ones(ops, dtype=np.bool_)
    there[ops // 2] = False
    history = _written(ops, kinds=("postgresql.write",), keys=text_array(list(keys)), value=text_array(values))
    rows = TableRows(
        key=text_array(list(keys)),
        value=text_array([value if is_there else "" for value, is_there in zip(values, there, strict=True)]),
        there=there,
        source=np.zeros(ops, dtype=np.int32),
        sources=(("postgresql-primary-0", 1),),
    )
    return dataclasses.replace(history, audit=dataclasses.replace(history.audit, rows=rows))


def _keys(ops: int) -> tuple[str, ...]:
    return tuple(f"bench-{number}" for number in range(ops))


def _values(ops: int) -> list[str]:
    return [f"bench-1-{number}" for number in range(ops)]


def _written(ops: int, **columns: Any) -> History:
    called = np.arange(ops, dtype=np.int64) * EVERY_US
    took = np.random.default_rng(1).integers(1, AROUND_US, ops)
    return history_of(ops, key=np.arange(ops, dtype=np.int32), called=called, returned=called + took, **columns)
