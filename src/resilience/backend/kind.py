"""A kind cluster of the harness's own: made, found again, filled with images and manifests, ended.

Its kubeconfig is a file of the harness's own in the cache folder, so neither the user's nor its current context is
read or changed. A cluster counts as ours by its name and by a label on its control plane; nothing is done to another.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.backend.kubernetes.cluster import Cluster, platform_nodes
from resilience.backend.kubernetes.images import described, is_here
from resilience.backend.kubernetes.manifests import NODE
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.desk import Desk, broken_nodes, put_all_right
from resilience.backend.machine.docker import Docker
from resilience.backend.tool import output
from resilience.errors import HarnessError, HostError, StackError

NAME = "harmonyflow"
NODE_IMAGE = "KIND_NODE_IMAGE"  # the environment's: which node image is used instead of kind's own
OURS = ("harmonyflow.dev/cluster", "resilience")
TOOLS: Mapping[str, str] = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}
_OBSERVER_SHARES = 16_384  # of processor time where it is short; another node's container has 1,024
_THERE = "already exist"  # what kind says of a name that somebody else has taken meanwhile
_QUICK_S, _CREATE_S, _LOAD_S, _READY_S = 30.0, 420.0, 600.0, 180


class Kind(Cluster):
    """One cluster by name; ``folder`` keeps its kubeconfig and what was applied."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        """Looks at nothing."""
        kubeconfig = folder / f"{name}.kubeconfig"
        super().__init__(folder, stack="kind", name=name, context=f"kind-{name}", kubeconfig=kubeconfig, overlay="kind")

    def require_looking(self) -> None:
        """See `Cluster`: it is found by ``kind``."""
        require_tools()

    def require_filling(self) -> None:
        """See `Cluster`."""
        require_tools()

    def servers(self) -> str:
        """See `Cluster`."""
        return described(os.environ)

    def exists(self) -> bool:
        """Whether there is a cluster of that name, ours or not. Raises `HostError`, `StackError`."""
        return self.name in output(["kind", "get", "clusters"], timeout_s=_QUICK_S).split()

    def create(self, config: Path) -> None:
        """Makes the cluster and waits until its nodes are ready. Raises `HostError`, `StackError`.

        One that is broken off half-way is deleted again: nobody would know it for the harness's any more.
        """
        image = os.environ.get(NODE_IMAGE, "")
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        named = ["--name", self.name, "--config", str(config), "--kubeconfig", str(self.kubeconfig)]
        chosen = ["--image", image] if image else []
        wait = ["--wait", f"{_READY_S}s"]
        shutil.rmtree(self._nodes_state, ignore_errors=True)  # of one that somebody else has deleted
        try:
            output(["kind", "create", "cluster", *named, *chosen, *wait], timeout_s=_CREATE_S)
        except StackError as error:
            if "pull image" in str(error):  # and nothing was made
                raise StackError(f"{error}; {NODE_IMAGE} names another node image") from error
            if _THERE not in str(error):
                self._delete_half_made(error)
            raise
        except BaseException as error:
            if not isinstance(error, Exception):  # a signal: kind hears of it, too, and leaves everything as it is
                self._delete_half_made(error)
            raise

    def _delete_half_made(self, error: BaseException) -> None:
        """Kind does so itself where it is not killed; what goes wrong here is told beside what went wrong first."""
        try:
            self._delete()
        except HarnessError as trouble:
            raise StackError(f"{str(error) or 'interrupted'}; what was made by then is left: {trouble}") from error

    def open(self) -> Api:
        """The API of the cluster, once it is known to be ours. Raises `StackError` if it is somebody else's."""
        if not self.kubeconfig.exists():
            self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
            export = ["--name", self.name, "--kubeconfig", str(self.kubeconfig)]
            output(["kind", "export", "kubeconfig", *export], timeout_s=_QUICK_S)
        api = Api.of_context(self.kubeconfig, self.context)
        try:
            nodes = api.items("/api/v1/nodes")
        except ApiError as error:
            raise StackError(
                f"the kind cluster {self.name} cannot be asked whose it is: {error};"
                f" if it is broken for good, 'kind delete cluster --name {self.name}' ends it"
            ) from error
        if not is_ours(nodes):
            raise StackError(
                f"the kind cluster {self.name} is not the harness's (no node is labelled {'='.join(OURS)}): delete it"
                f" yourself if nobody needs it ('kind delete cluster --name {self.name}')"
            )
        return api

    def delete(self) -> None:
        """Deletes the cluster with all that is in it, and what is kept of it. Raises `StackError`."""
        self._delete()
        self.forget()

    def _delete(self) -> None:
        """Without a kubeconfig named kind would change the user's own."""
        named = ["--name", self.name, "--kubeconfig", str(self.kubeconfig)]
        output(["kind", "delete", "cluster", *named], timeout_s=_CREATE_S)

    def load(self, images: Iterable[str]) -> None:
        """Puts images that this machine has into the nodes; the nodes pull the others themselves."""
        held = self.images_by_node().values()
        here = [image for image in images if is_here(image) and not all(image in node for node in held)]
        if here:
            output(["kind", "load", "docker-image", "--name", self.name, *here], timeout_s=_LOAD_S)

    @property
    def rule(self) -> str:
        """See `Cluster`."""
        return f"cluster {self.context}: one of its nodes is labelled {'='.join(OURS)}"

    def machine(self, api: Api) -> Desk:
        """See `Cluster`: Docker does it to nodes."""
        return Desk(self.name, self._nodes_state, self.kubeconfig, lambda: platform_nodes(api))

    def broken_nodes(self) -> list[str]:
        """See `Cluster`; what Docker says of containers first, since no API may answer then."""
        return [f"{host} ({told})" for host, told in broken_nodes(Docker(), self.name).items()] + super().broken_nodes()

    def _steps_right(self) -> Sequence[Callable[[], list[str]]]:
        return self._put_containers_right, *super()._steps_right()

    def _put_containers_right(self) -> list[str]:
        return [f"node {host}: {', '.join(done)}" for host, done in put_all_right(Docker(), self.name).items()]

    def doors(self, api: Api) -> tuple[tuple[str, str], ...]:
        """The addresses on this machine by which people get in. Raises `StackError`."""
        observer = self._observer(api)
        ports = {"prometheus": "30090/tcp", "edge": "30080/tcp"}
        return tuple(
            (name, f"http://{output(['docker', 'port', observer, port], timeout_s=_QUICK_S).split()[0]}")
            for name, port in ports.items()
        )

    def favour_observer(self, api: Api) -> None:
        """Lets the observer's node have the processors first. Raises `HostError`, `StackError`.

        kind's nodes share one machine. If that is busy the platform is to be slow, which is measured, and not what
        measures it; on ``local`` the generators run with real-time priority for that.
        """
        output(["docker", "update", "--cpu-shares", str(_OBSERVER_SHARES), self._observer(api)], timeout_s=_QUICK_S)

    def _observer(self, api: Api) -> str:
        """The name of the node, which is that of its container, too."""
        for node in api.items("/api/v1/nodes", f"{NODE}=observer"):
            return str(node["metadata"]["name"])
        raise StackError(f"the cluster {self.name} has no node labelled {NODE}=observer")

    def meminfo(self) -> str:
        """What a node says of the memory of the machine that all of them share. Raises `HostError`, `StackError`."""
        return output(["docker", "exec", f"{self.name}-control-plane", "cat", "/proc/meminfo"], timeout_s=_QUICK_S)

    def images_by_node(self) -> dict[str, set[str]]:
        """What each worker has already, by the names that people use. Raises `StackError`."""
        nodes = output(["kind", "get", "nodes", "--name", self.name], timeout_s=_QUICK_S).split()
        return {node: _images_of(node) for node in nodes if not node.endswith("control-plane")}


def require_tools() -> None:
    """Raises `HostError` if Docker, kind or kubectl is missing, or Docker does not run."""
    for tool in TOOLS:
        require_tool(tool)
    docker_info()


def require_tool(tool: str) -> None:
    """Raises `HostError` if it is missing."""
    if not shutil.which(tool):
        raise HostError(f"{tool} is not on PATH: install it ({TOOLS[tool]})")


def docker_info() -> Object:
    """What Docker says of itself and its machine. Raises `HostError` if it does not run."""
    try:
        facts: Object = json.loads(output(["docker", "info", "--format", "{{json .}}"], timeout_s=_QUICK_S))
    except StackError as error:
        raise HostError(f"Docker cannot be asked: {error}; start it, or join the group that may") from error
    except ValueError as error:  # another program of that name
        raise HostError(
            f"'docker info' says nothing that can be read ({error}): is it Docker ({TOOLS['docker']})?"
        ) from error
    if facts.get("ServerErrors"):
        raise HostError(f"Docker is not running: {facts['ServerErrors'][0]}; start it, or join the group that may")
    return facts


def is_ours(nodes: Sequence[Object]) -> bool:
    """Whether these are the nodes of a cluster that the harness made."""
    key, value = OURS
    return any(node["metadata"].get("labels", {}).get(key) == value for node in nodes)


def config_file() -> Path:
    """The cluster as it is shipped."""
    return PROJECT_ROOT / "kind-config.yaml"


def _images_of(node: str) -> set[str]:
    listed = output(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q"], timeout_s=_QUICK_S)
    return {image.removeprefix("docker.io/").removeprefix("library/") for image in listed.split()}
