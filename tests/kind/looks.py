"""What tests see of a cluster from outside of all that breaks and heals it: what is cut off, and who ended what."""

import json
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from resilience.agent.node import STATE
from resilience.backend.kind import Kind
from resilience.errors import StackError

LOOK_S = 60.0  # a call into a pod takes half a minute on a machine that is busy
_LOOKED = "looked into a network"

# From a node's process namespace: the tables of each network on it, whatever the processes are called that hold it.
TABLES = f"""
for p in /proc/[0-9]*; do echo "$(readlink "$p/ns/net") ${{p##*/}}"; done 2>/dev/null | grep '^net:' | sort -u -k1,1 |
while read -r _net pid; do nsenter --target "$pid" --net nft list tables 2>/dev/null && echo "{_LOOKED}"; done; true
"""
# One line for each injection that has ended, of those that a node's agent knows, or the machine under the nodes.
RECORDS = f"""
for d in "${STATE}"/injections/*/; do
  if [ -e "$d/applied.json" ] && [ -e "$d/undone.json" ]; then
    for name in request applied undone; do tr -d '\\n' < "$d/$name.json"; printf '\\t'; done; echo
  fi
done; true
"""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What whoever did and ended an injection has written of it, on the clock that all under one kernel share."""

    injection: str
    applied_s: float
    undoing_s: float
    ended_s: float
    by: str


def tables_in(said: Sequence[str]) -> list[str]:
    """The tables of injections, in what `TABLES` said on each node. Raises `StackError` if one looked into nothing."""
    for text in said:
        if _LOOKED not in text:
            raise StackError("no network of a node could be looked into: is nft in its agent's image?")
    return [line for text in said for line in text.splitlines() if " hf_" in line]


def records_in(said: Sequence[str]) -> list[Record]:
    """The injections that have ended, in what `RECORDS` said; of each only the part that did something."""
    lines = [line.split("\t")[:3] for text in said for line in text.splitlines()]
    parts = [[json.loads(part) for part in line] for line in lines]
    return [
        Record(
            injection=told["injection"]["id"],
            applied_s=applied["applied_ns"] / 1e9,
            undoing_s=undone["began_ns"] / 1e9,
            ended_s=undone["healed_ns"] / 1e9,
            by=undone["by"],
        )
        for told, applied, undone in parts
        if told["injection"]["steps"]
    ]


def broken_nodes(cluster: Kind) -> list[str]:
    """The nodes that something is done to."""
    return cluster.broken_nodes()


def cut_pods(cluster: Kind) -> list[str]:
    """The tables of partitions, in any network of any node."""
    return tables_in(_on_all_nodes(cluster, TABLES))


def ended(cluster: Kind) -> list[Record]:
    """What has ended, by agents and by the machine under the nodes."""
    environment = {**os.environ, STATE: str(cluster._nodes_state)}
    machine = subprocess.run(["sh", "-c", RECORDS], env=environment, capture_output=True, text=True, check=True)
    return records_in([machine.stdout, *_on_all_nodes(cluster, RECORDS)])


def _on_all_nodes(cluster: Kind, script: str) -> list[str]:
    """What a script prints beside each node's agent, in the node's process namespace; all at the same time."""
    where = ("-n", "resilience", "-l", "app.kubernetes.io/component=agent", "-o", "name")
    agents = cluster.kubectl("get", "pods", *where, timeout_s=LOOK_S).split()
    if not agents:
        raise StackError("no agent is there to look beside")
    with ThreadPoolExecutor(len(agents)) as threads:
        return list(
            threads.map(lambda agent: cluster.run("resilience", agent, ("sh", "-c", script), "", LOOK_S), agents)
        )
