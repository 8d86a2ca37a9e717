"""Judging registers: ops a second of processor time, by zones alone, by the whole check, and where it has to search.

The histories are made by rule: each op takes effect at an instant of its own and was under way for some time around it,
so that some three ops on a register overlap, and all of them have an order. One read is told an older value besides.

``python -m bench.registers zones OPS`` prints how many megabytes zones take at most over a longer one.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench.columns import history_of
from bench.measure import ROOT, Figure, Place, peak_mb, peaks, rates
from resilience.check.finding import Finding
from resilience.check.linearizability import INITIAL, Registers, contradictions
from resilience.check.registers import NAME, registers
from resilience.history.columns import text_array
from resilience.history.read import History
from resilience.spec.read import read_scenario

OPS, MANY_OPS, OPS_OF_ONE = 1_000_000, 10_000_000, 40
ZONES = "zones"
SEARCHED = 200_000  # ops where a quarter are compare-and-sets
EVERY_US, AROUND_US = 10_000, 15_000
KINDS = ("register.read", "register.write", "register.swap")
READ, WRITE, SWAP = range(3)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """Ops by registers; ``value`` is what each left there, ``stood`` what it found, by numbers."""

    key: Any
    kind: Any
    value: Any
    stood: Any
    called: Any
    returned: Any


def figures(place: Place) -> Iterator[Figure]:
    """Ops a second. Raises `BenchError` if what was planted was not found, or anything else was."""
    zones = _as_registers(made(OPS, swaps=False))
    scenario = read_scenario(ROOT, "postgresql-baseline")
    plain, swapped = (as_history(made(ops, swaps=swaps)) for ops, swaps in ((OPS, False), (SEARCHED, True)))
    aim = "at least 1,000,000"
    yield _figure(f"{ZONES}, {OPS:,} ops", OPS, lambda: len(contradictions(zones)), place, aim)
    yield peaks(place, "bench.registers", ZONES, MANY_OPS)
    yield _figure(f"check of registers, {OPS:,} ops", OPS, lambda: broken(registers(scenario, plain)), place)
    name = f"check of registers with a search, {SEARCHED:,} ops, a quarter compare-and-sets"
    yield _figure(name, SEARCHED, lambda: broken(registers(scenario, swapped)), place)


def broken(findings: tuple[Finding, ...]) -> int:
    """How many registers contradict themselves, or could not be decided."""
    (finding,) = findings
    return int(finding.measures[f"{NAME}.unexplained_ops"] + finding.measures[f"{NAME}.undecided_ops"])


def _figure(name: str, ops: int, found: Callable[[], int], place: Place, aim: str = "") -> Figure:
    return Figure(name=name, unit="ops/s", values=rates(place, ops, found), aim=aim)


def made(ops: int, *, swaps: bool, stale: bool = True) -> Made:
    """So many ops, with one stale read among them."""
    chance = np.random.default_rng(1)
    number = np.arange(ops, dtype=np.int64)
    turn = number % OPS_OF_ONE
    drawn = chance.integers(0, 4, ops)
    kind = np.where(drawn < 2, READ, np.where((drawn == 2) | (not swaps), WRITE, SWAP))
    kind[turn == 0] = WRITE
    last = ops // OPS_OF_ONE // 2 * OPS_OF_ONE + OPS_OF_ONE - 1  # the last op of a register reads what was overwritten
    kind[last - 4], kind[last - 3 : last + 1] = WRITE, READ
    written = np.maximum.accumulate(np.where(kind == READ, -1, number))  # the op whose value stands there after each
    stood = np.where(turn == 0, INITIAL, np.concatenate(([INITIAL], written[:-1])))
    if stale:
        stood[last] = stood[last - 4]
    at = turn * EVERY_US + 2 * AROUND_US
    return Made(
        key=number // OPS_OF_ONE,
        kind=kind,
        value=number,
        stood=stood,
        called=at - chance.integers(0, AROUND_US, ops),
        returned=at + chance.integers(0, AROUND_US, ops),
    )


def _as_registers(ops: Made) -> Registers:
    return Registers(
        key=ops.key.astype(np.int32),
        value=np.where(ops.kind == READ, ops.stood, ops.value),
        writes=ops.kind != READ,
        called=ops.called,
        returned=ops.returned,
    )


def as_history(ops: Made) -> History:
    """A history of these ops and nothing else."""
    standing, stood = np.unique(np.where(ops.kind == WRITE, INITIAL, ops.stood), return_inverse=True)
    texts = [f"pg-1-r{number}" if kind != READ else "" for number, kind in enumerate(ops.kind)]
    return history_of(
        len(ops.key),
        kind=ops.kind.astype(np.int32),
        key=ops.key.astype(np.int32),
        value=text_array(texts),
        called=ops.called,
        returned=ops.returned,
        stood=stood.astype(np.int32),
        kinds=KINDS,
        keys=text_array([f"pg-register-{number}" for number in range(int(ops.key.max()) + 1)]),
        standing=tuple("" if number == INITIAL else f"pg-1-r{number}" for number in standing.tolist()),
    )


def main() -> int:
    """Zones alone, over so many ops."""
    ops = _as_registers(made(int(sys.argv[2]), swaps=False))
    print(peak_mb(lambda: len(contradictions(ops))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
