"""``python -m resilience.backend.machine``: see the package's own words."""

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from resilience.agent.error import AgentError
from resilience.agent.job import Job
from resilience.agent.node import BOOT_ID, Node
from resilience.backend.machine.control_plane import ControlPlane, plane_of
from resilience.backend.machine.docker import Docker, docker_under
from resilience.backend.machine.nodes import Nodes
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.step import step_of

PROBE_WITHIN_S = 45.0  # what a cluster does takes its time, and its probes wait for it once


def node_of(
    state: Path, cluster: str, allowed: frozenset[str], docker: Docker, plane_of: Callable[[], ControlPlane]
) -> Node:
    """The agent for one cluster's nodes. ``plane_of``: a daemon must not share its parent's connections."""

    def job_of(request: dict[str, Any]) -> Job:
        plane = plane_of()
        return Job(request, partial(step_of, docker, plane), partial(probe_of, docker, plane))

    return Node(
        state=state,
        pods=Nodes(cluster=cluster, allowed=allowed, docker=docker, plane=plane_of()),
        boot_id=BOOT_ID.read_text().strip(),
        job_of=job_of,
        probe_within_s=PROBE_WITHIN_S,
    )


def answered(node: Node, docker: Docker, word: str, request: dict[str, Any]) -> dict[str, Any]:
    """What one word is answered; an error is an answer, too."""
    words: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "apply": node.apply,
        "probe": node.probe,
        "undo": lambda asked: _with_starts(node.undo(asked), docker),
        "open": node.open,
    }
    try:
        return words[word](request)
    except (AgentError, OSError, ValueError) as error:
        return {"error": str(error)}
    except (KeyError, TypeError) as error:
        return {"error": f"{word}: {error!r}: see the package's own words"}


def _with_starts(answer: dict[str, Any], docker: Docker) -> dict[str, Any]:
    """When each node was started last: pods that are older than that are only remembered."""
    words = [item["what"].split() for item in answer.get("evidence", ())]
    hosts = {word[1] for word in words if word[0] == "container"} & docker.names()
    return {**answer, "started_at": {host: docker.container(host).started_at for host in sorted(hosts)}}


def main(argv: list[str]) -> int:
    """Prints one line of JSON; the exit code is 0 for an answer."""
    word, state, stack, cluster, context, kubeconfig, allowed = argv
    docker = docker_under(stack)
    reached = partial(plane_of, stack, context, Path(kubeconfig))
    node = node_of(Path(state), cluster, frozenset(allowed.split(",")), docker, reached)
    print(json.dumps(answered(node, docker, word, json.loads(sys.stdin.readline()))), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
