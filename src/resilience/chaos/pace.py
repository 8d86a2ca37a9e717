"""How fast the load has been over the last few seconds, from the ops that its processes wrote down before sending."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from resilience.history.people import OF_PEOPLE
from resilience.history.record import Invoked
from resilience.history.transaction import KIND
from resilience.spec.scenario import Scenario

WINDOW_US = 5_000_000
WINDOW_US_MIN = 1_000_000  # of a part that has only just begun; over less, a rate says nothing
LAG_US = 1_000_000  # the last second is left out: it may not be on disk yet
LEAST_RATIO = 0.9  # of a part's asked-for rate, where the load names no minimum of its own
NOISE_RATIO = 0.8  # arrivals are random and the window is short; whole phases are judged by the run's own checks
_TAIL_BYTES = 4_000_000
_INVOKED = b'["i",'


def too_slow(scenario: Scenario, directory: Path, now_us: int) -> list[str]:
    """The parts of the load that sent less than nearly their least rate, in words."""
    rates = _rates(directory, now_us - LAG_US)
    return [
        f"{part}: {rates.get(part, 0.0):.1f} ops/s, at least {least * NOISE_RATIO:.1f} expected"
        for part, least in _least(scenario).items()
        if rates.get(part, 0.0) < least * NOISE_RATIO
    ]


def _least(scenario: Scenario) -> dict[str, float]:
    load = scenario.load
    direct = load.direct_rate_ops_per_s_min or load.direct_rate_ops_per_s * LEAST_RATIO
    return {
        "session": load.session_rate_ops_per_s_min or load.session_rate_ops_per_s * LEAST_RATIO,
        "collaboration.edit": load.edit_rate_ops_per_s_min or load.edit_rate_ops_per_s * LEAST_RATIO,
        **{f"direct.write of shard {group}": direct for group, _ in enumerate(scenario.stack.shards, start=1)},
        **_least_of_content(scenario),
        **_least_of_postgresql(scenario),
        **_least_of_queues(scenario),
        **_least_of_personalization(scenario),
    }


def _least_of_content(scenario: Scenario) -> dict[str, float]:
    load = scenario.load
    least = load.content_rate_ops_per_s_min or load.content_ops_per_s * LEAST_RATIO
    return {} if scenario.stack.content is None else {"content": least}


def _least_of_postgresql(scenario: Scenario) -> dict[str, float]:
    """Both ways together; what is done to registers and lists counts apart."""
    if scenario.stack.postgresql is None:
        return {}
    load = scenario.load
    rows = 2 * (load.postgresql_rate_ops_per_s_min or load.postgresql_ops_per_s * LEAST_RATIO)
    registers = load.postgresql_register_rate_ops_per_s
    transactions = load.postgresql_list_rate_ops_per_s
    asked = {"registers": registers, KIND: transactions}
    return {"postgresql.write": rows} | {part: rate * LEAST_RATIO for part, rate in asked.items() if rate is not None}


def _least_of_queues(scenario: Scenario) -> dict[str, float]:
    load = scenario.load
    least = load.rabbitmq_rate_ops_per_s_min or load.rabbitmq_ops_per_s * LEAST_RATIO
    return {f"rabbitmq.publish to {queue}": least for queue in scenario.stack.load_queues}


def _least_of_personalization(scenario: Scenario) -> dict[str, float]:
    if scenario.stack.personalization is None:
        return {}
    return {"personalization": scenario.load.personalization_ops_per_s * LEAST_RATIO}


def _rates(directory: Path, end_us: int) -> dict[str, float]:
    """Ops/s of each part over the window that ends then, or since its first op, after a short warm-up."""
    counted, begun = Counter[str](), dict[str, int]()
    for op in (op for file in sorted(directory.glob("*.ops.jsonl")) for op in _recent_ops(file)):
        part = _part(op)
        begun[part] = min(op.due, begun.get(part, op.due))
        counted[part] += end_us - WINDOW_US <= op.due < end_us
    lengths_us = {part: max(WINDOW_US_MIN, min(WINDOW_US, end_us - since)) for part, since in begun.items()}
    return {part: counted[part] / (length_us / 1_000_000) for part, length_us in lengths_us.items()}


def _part(op: Invoked) -> str:
    if op.kind.startswith("session."):
        return "session"
    if op.kind in OF_PEOPLE:
        return "personalization"
    if op.kind.startswith("content."):
        return "content"
    if op.kind.startswith("register."):
        return "registers"
    if op.kind == "rabbitmq.publish":
        return f"rabbitmq.publish to {op.key}"
    return f"direct.write of shard {op.group}" if op.kind == "direct.write" else op.kind


def _recent_ops(path: Path) -> Iterator[Invoked]:
    decoder = msgspec.json.Decoder(Invoked)
    with path.open("rb") as file:
        skipped = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
        file.seek(skipped)
        whole = file.read().rpartition(b"\n")[0].split(b"\n")
    for line in whole[1:] if skipped else whole:
        if line.startswith(_INVOKED):
            yield decoder.decode(line)
