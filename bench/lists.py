"""Judging transactions on lists: appends and reads a second of processor time, by the whole check.

The history is made by rule: transactions take effect one after the other, each was under way for some time around that,
so that some three overlap, and what each read is what those before it had appended. Two at its middle do not see each
other's append besides.
"""

import dataclasses
import random
from collections.abc import Iterator

import numpy as np

from bench.columns import history_of
from bench.measure import ROOT, Figure, Place, rates
from resilience.check.finding import Finding
from resilience.check.lists import NAME, lists
from resilience.history.columns import text_array
from resilience.history.read import History
from resilience.history.record import AuditDone
from resilience.history.transaction import KIND, TABLE, Step, Told, text_of, told_text
from resilience.spec.read import read_scenario

TRANSACTIONS, STEPS_OF_ONE = 300_000, 3
LISTS, OF_ONE = 3, 60  # so many lists at a time, left after so many transactions
EVERY_US, AROUND_US = 10_000, 15_000


def figures(place: Place) -> Iterator[Figure]:
    """Ops a second. Raises `BenchError` if what was planted was not found, or anything else was."""
    scenario = read_scenario(ROOT, "postgresql-baseline", ["load.postgresql_list_rate_ops_per_s=20"])
    history, steps = made(TRANSACTIONS), TRANSACTIONS * STEPS_OF_ONE
    yield Figure(
        name=f"check of lists, {TRANSACTIONS:,} transactions of {STEPS_OF_ONE} appends or reads",
        unit="ops/s",
        values=rates(place, steps, lambda: broken(lists(scenario, history))),
    )


def broken(findings: tuple[Finding, ...]) -> int:
    """How many anomalies there are."""
    (finding,) = findings
    return int(finding.measures[f"{NAME}.forbidden_ops"])


def made(transactions: int) -> History:
    """A history of so many transactions and nothing else, with one write skew."""
    chance = random.Random(1)  # noqa: S311  not for secrets
    stored: dict[str, list[str]] = {}
    texts, told = [], []
    for number in range(transactions):
        group = number // OF_ONE
        steps = [
            Step(f"l-{group}-{chance.randrange(LISTS)}", f"{number}.{at}" if chance.random() < 1 / 2 else "")
            for at in range(STEPS_OF_ONE)
        ]
        if number in _skewed(transactions):
            steps = _skew(group, number, first=number == transactions // 2)
        texts.append(text_of(steps))
        contents = []
        for key, value in steps:
            if value:
                stored.setdefault(key, []).append(value)
            else:
                contents.append(",".join(stored.get(key, ())))
        if number == _skewed(transactions)[1]:
            contents = [contents[0].rpartition(",")[0]] * 2
        told.append(told_text(Told("serializable", tuple(contents))))
    return _history(texts, told, {key: ",".join(values) for key, values in stored.items()})


def _skewed(transactions: int) -> tuple[int, int]:
    return transactions // 2, transactions // 2 + 1


def _skew(group: int, number: int, *, first: bool) -> list[Step]:
    """One of two, each of which reads the list twice that the other appends to."""
    one, other = (f"l-{group}-{place}" for place in ((0, 1) if first else (1, 0)))
    return [Step(one), Step(one), Step(other, f"{number}.2")]


def _history(texts: list[str], told: list[str], stored: dict[str, str]) -> History:
    count, chance = len(texts), np.random.default_rng(1)
    at = np.arange(count, dtype=np.int64) * EVERY_US + AROUND_US
    standing = {text: code for code, text in enumerate(dict.fromkeys(told))}
    history = history_of(
        count,
        value=text_array(texts),
        called=at - chance.integers(0, AROUND_US, count),
        returned=at + chance.integers(0, AROUND_US, count),
        stood=np.array([standing[text] for text in told], dtype=np.int32),
        kinds=(KIND,),
        keys=text_array([TABLE]),
        standing=tuple(standing),
    )
    done = (AuditDone("lists", len(stored), int(at[-1]) * 2),)
    return dataclasses.replace(history, audit=dataclasses.replace(history.audit, lists=stored, done=done))
