"""The same runs in a kind cluster: until it serves, what it costs to stand there, and its outage beside local's.

It needs what ``make up STACK=kind`` needs, deletes the cluster first, and leaves one with a stack in it. A run counts
whatever its verdict is, which the table names: on a small machine a cluster's run is often inconclusive.
"""

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence

from bench.measure import BenchError, Figure, Place, Timed, timed_command, timed_run
from resilience import cluster_cli
from resilience.agent.error import AgentError
from resilience.backend.kubernetes.needs import quantity
from resilience.backend.machine.docker import Docker
from resilience.errors import HarnessError

SCENARIO = "redis-failover"
ON_KIND = ("--stack", "kind")
SETTLING_S = 30.0
SAMPLES = 10
MIB = 2**20
_FIRST_ANSWER_S = 30.0


def figures(place: Place) -> Iterator[Figure]:
    """Seconds, shares of a core and memory, ratios, and the scenario on both backends. Raises `BenchError`."""
    try:
        yield from _figures(place)
    except (HarnessError, AgentError) as error:
        raise BenchError(str(error)) from error


def _figures(place: Place) -> Iterator[Figure]:
    _must("image", *ON_KIND)
    yield Figure(
        name="kind: cluster and stack to first good request, images cached", unit="s",
        values=tuple(_up_s() for _ in range(place.repeats)),
    )  # fmt: skip
    time.sleep(SETTLING_S)
    hosts = _hosts()
    idle = [_used(hosts) for _ in range(SAMPLES)]
    yield Figure(name="kind: idle cluster, processors", unit="% of a core", values=tuple(cpu for cpu, _ in idle))
    yield Figure(name="kind: idle cluster, memory", unit="MiB", values=tuple(memory / MIB for _, memory in idle))
    for stack, options in (("local", ()), ("kind", ON_KIND)):
        timed_run("baseline", place, options=options)  # the control: not part of a run's own time
        yield from _of_runs(stack, [timed_run(SCENARIO, place, options=options) for _ in range(place.repeats)])


def _of_runs(stack: str, runs: Sequence[Timed]) -> Iterator[Figure]:
    told = ", ".join(
        f"{times} {verdict}" for verdict, times in Counter(run.verdict()["verdict"] for run in runs).items()
    )
    phases_s: float = sum(runs[0].spec()["scenario"]["timeline"].values())
    name = f"{stack}: {SCENARIO} ({told})"
    yield Figure(name=f"{name}, whole run / its phases", unit="", values=tuple(run.took_s / phases_s for run in runs))
    measures = [run.verdict()["measures"] for run in runs]
    for what, measure, unit in (
        ("first good write after", "recovery.first_good_write_s", "s"),
        ("acknowledged writes lost", "durability.lost_ops", ""),
    ):
        values = tuple(float(one[measure]) for one in measures if one.get(measure) is not None)
        if not values:
            raise BenchError(f"{runs[-1].directory}: no run has measured {measure}")
        yield Figure(name=f"{name}, {what}", unit=unit, values=values)


def _must(*arguments: str) -> float:
    took_s, code = timed_command(arguments)
    if code != 0:
        raise BenchError(f"resilience {' '.join(arguments)}: exit {code}")
    return took_s


def _up_s() -> float:
    """How long a cluster and its stack take from nothing until the edge has answered."""
    _must("down", *ON_KIND)
    began = time.monotonic()
    _must("up", *ON_KIND)
    cluster, api = cluster_cli.standing()
    _answered(dict(cluster.doors(api))["edge"])
    return time.monotonic() - began


def _answered(edge: str) -> None:
    last = time.monotonic() + _FIRST_ANSWER_S
    while True:
        try:
            with urllib.request.urlopen(f"{edge}/healthz", timeout=5) as answer:  # noqa: S310  http, from kind itself
                answer.read()
                return
        except OSError as error:  # an answer that is an error is one, too
            if time.monotonic() > last:
                raise BenchError(f"{edge} has not answered: {error}") from error
            time.sleep(0.05)


def _hosts() -> list[str]:
    cluster = cluster_cli.standing()[0]
    return [node.host for node in Docker().nodes(cluster.name)]


def _used(hosts: Sequence[str]) -> tuple[float, float]:
    """Percent of a core and bytes that all nodes take together at the moment, as Docker says it."""
    said = Docker().do("stats", "--no-stream", "--format", "{{json .}}", *hosts)
    rows = [json.loads(line) for line in said.splitlines()]
    if len(rows) != len(hosts):
        raise BenchError(f"docker stats told of {len(rows)} nodes of {len(hosts)}")
    cpu = sum(float(row["CPUPerc"].rstrip("%")) for row in rows)
    return cpu, float(sum(quantity(row["MemUsage"].split("/")[0].strip().removesuffix("B")) for row in rows))
