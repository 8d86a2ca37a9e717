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
from resilience.backend.machine.docker import Docker
from resilience.backend.machine.nodes import Nodes
from resilience.backend.machine.probe import probe_of
from resilience.backend.machine.step import step_of


def node_of(state: Path, cluster: str, allowed: frozenset[str], docker: Docker) -> Node:
    """The agent for one cluster's nodes."""
    return Node(
        state=state,
        pods=Nodes(cluster=cluster, allowed=allowed, docker=docker),
        boot_id=BOOT_ID.read_text().strip(),
        job_of=lambda request: Job(request, partial(step_of, docker), partial(probe_of, docker)),
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
    word, state, cluster, allowed = argv
    docker = Docker()
    node = node_of(Path(state), cluster, frozenset(allowed.split(",")), docker)
    print(json.dumps(answered(node, docker, word, json.loads(sys.stdin.readline()))), flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
