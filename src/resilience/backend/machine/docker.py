"""The containers that a kind cluster's nodes are: what each is at the moment, and one change at a time."""

import ipaddress
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from resilience.agent.error import AgentError
from resilience.backend.tool import output
from resilience.errors import HarnessError, StackError

CLUSTER, ROLE = "io.x-k8s.kind.cluster", "io.x-k8s.kind.role"  # kind's own labels
KIND = "kind"  # what people ask for a cluster by whose nodes are containers
WORKER = "worker"
RUNNING, PAUSED, EXITED = "running", "paused", "exited"  # as Docker says it
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
CALL_S = 20.0  # a busy machine takes seconds to start a container

Run = Callable[[Sequence[str], float], str]  # a command and its seconds: what it prints


class Link(NamedTuple):
    """A container's place in one network."""

    network: str
    address: str
    mac: str

    @classmethod
    def from_json(cls, data: Sequence[str]) -> Self:
        """Both end in a shell's line: raises `ValueError` for what is neither an address nor none."""
        network, address, mac = data
        if address:
            ipaddress.IPv4Address(address)
            if not _MAC.fullmatch(mac):
                raise ValueError(f"{mac!r} is no MAC address")
        return cls(network, address, mac)


class Container(NamedTuple):
    """A node's container."""

    host: str
    state: str
    started_at: str  # RFC 3339, of its last start
    links: tuple[Link, ...]
    cluster: str
    role: str

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """What ``docker inspect`` says of one."""
        networks = found["NetworkSettings"]["Networks"] or {}
        labels = found["Config"]["Labels"] or {}
        return cls(
            host=found["Name"].lstrip("/"),
            state=found["State"]["Status"],
            started_at=found["State"]["StartedAt"],
            links=tuple(Link(name, link["IPAddress"], link["MacAddress"]) for name, link in sorted(networks.items())),
            cluster=labels.get(CLUSTER, ""),
            role=labels.get(ROLE, ""),
        )

    @property
    def told(self) -> str:
        """What it is, in words."""
        return f"{self.state}, {'connected' if self.links else 'without a network'}"

    @property
    def well(self) -> bool:
        """Whether nothing is done to it."""
        return self.state == RUNNING and bool(self.links)


def _run(argv: Sequence[str], timeout_s: float) -> str:
    return output(argv, timeout_s=timeout_s)


class Docker:
    """Docker, by its command line; everything raises `AgentError`."""

    under_nodes = True  # whether nodes are containers of its, so that it can do something to them

    def __init__(self, run: Run = _run) -> None:
        """``run`` calls a command; raises `HarnessError`."""
        self._call = run

    def container(self, host: str) -> Container:
        """One container, by its name."""
        return self._inspected([host])[0]

    def names(self) -> set[str]:
        """All containers that there are, running or not."""
        return set(self.do("ps", "--all", "--format", "{{.Names}}").split())

    def nodes(self, cluster: str) -> list[Container]:
        """All nodes of a cluster, running or not."""
        asked = ("ps", "--all", "--filter", f"label={CLUSTER}={cluster}", "--format", "{{.Names}}")
        return self._inspected(self.do(*asked).split())

    def script(self, host: str, text: str) -> str:
        """What a shell script prints that runs in a node."""
        return self.do("exec", host, "sh", "-c", text)

    def do(self, *words: str) -> str:
        """What ``docker`` prints."""
        try:
            return self._call(["docker", *words], CALL_S)
        except HarnessError as error:
            raise AgentError(str(error)) from error

    def _inspected(self, hosts: Sequence[str]) -> list[Container]:
        said = self.do("inspect", "--type", "container", *hosts) if hosts else "[]"
        try:
            return sorted(Container.from_json(one) for one in json.loads(said))
        except (ValueError, KeyError, TypeError) as error:
            raise AgentError(f"'docker inspect' of {', '.join(hosts)}: {error!r}") from error


class NoDocker(Docker):
    """Under the nodes of a cluster that are no containers of this machine: there is nothing that it could stop."""

    under_nodes = False

    def __init__(self) -> None:
        """Calls nothing."""
        super().__init__(_refused)

    def names(self) -> set[str]:
        """None."""
        return set()

    def nodes(self, cluster: str) -> list[Container]:
        """None, whichever cluster is meant."""
        del cluster
        return []


def _refused(_argv: Sequence[str], _timeout_s: float) -> str:
    raise StackError("the nodes of this cluster are no containers of this machine")


def docker_under(stack: str) -> Docker:
    """What does something to the nodes of a cluster that is asked for by ``--stack`` with these words."""
    return Docker() if stack == KIND else NoDocker()
