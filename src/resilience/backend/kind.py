"""A kind cluster of the harness's own: made, found again, filled with images and manifests, ended.

Its kubeconfig is a file of the harness's own in the cache folder, so neither the user's nor its current context is
read or changed. A cluster counts as ours by its name and by a label on its control plane; nothing is done to another.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from resilience.backend.kubernetes import manifests
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.backend.kubernetes.images import is_here
from resilience.backend.kubernetes.manifests import HARNESS, NAMESPACES, NODE, PLATFORM_NODES
from resilience.backend.kubernetes.platform import SELECTOR, KubernetesPlatform
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.control_plane import cordons, take_cordons_back
from resilience.backend.machine.deny import denials, take_denials_back
from resilience.backend.machine.desk import Desk, broken_nodes, put_all_right
from resilience.backend.machine.docker import Docker
from resilience.backend.machine.scale import scales, take_scales_back
from resilience.backend.tool import kubectl_output, one_line, output
from resilience.errors import HarnessError, HostError, StackError
from resilience.spec.stack import Stack

NAME = "harmonyflow"
NODE_IMAGE = "KIND_NODE_IMAGE"  # the environment's: which node image is used instead of kind's own
OURS = ("harmonyflow.dev/cluster", "resilience")
TOOLS: Mapping[str, str] = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}
AGENTS = NAMESPACES["agent"]  # the namespace that outlives a stack: what undoes faults, and the lock
_CLEAR_S = 180.0
_OBSERVER_SHARES = 16_384  # of processor time where it is short; another node's container has 1,024
_SHOWN = 200  # characters of what a namespace waits for
_THERE = "already exist"  # what kind says of a name that somebody else has taken meanwhile
_QUICK_S, _CREATE_S, _LOAD_S, _APPLY_S, _READY_S = 30.0, 420.0, 600.0, 120.0, 180


class Kind:
    """One cluster by name; ``folder`` keeps its kubeconfig and what was applied."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        """Looks at nothing."""
        self.name = name
        self.context = f"kind-{name}"
        self.kubeconfig = folder / f"{name}.kubeconfig"
        self.applied = folder / f"{name}-applied"
        self._nodes_state = folder / f"{name}-nodes"

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
        self.kubeconfig.unlink(missing_ok=True)
        shutil.rmtree(self.applied, ignore_errors=True)
        shutil.rmtree(self._nodes_state, ignore_errors=True)

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

    def apply(self, stack: Stack, images: Mapping[str, str]) -> None:
        """Applies the overlay `kind` with the stack's settings and a new password. Raises `StackError`."""
        shutil.rmtree(self.applied, ignore_errors=True)
        manifests.write(self.applied, "kind", stack, secrets.token_hex(24), images)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(self.applied), timeout_s=_APPLY_S)

    def wait_agents(self) -> None:
        """Waits until no agent has another image than was applied: it would be restarted later. Raises `StackError`."""
        self.kubectl("rollout", "status", "daemonset/agent", "-n", AGENTS, timeout_s=_APPLY_S)

    def clear(self) -> None:
        """Deletes the stack's namespaces with all that is in them, and waits for that; agents stay. Raises
        `StackError`.
        """
        spaces = sorted({*NAMESPACES.values()} - {AGENTS})
        gone = ("--ignore-not-found", "--wait", f"--timeout={_CLEAR_S:g}s")
        self.kubectl("delete", "namespace", *spaces, *gone, timeout_s=_CLEAR_S)

    def make_room_for_lock(self) -> None:
        """Makes the namespace that the lock has its place in. Raises `StackError`."""
        file = PROJECT_ROOT / "stacks" / "kubernetes" / "base" / "resilience" / "namespace.yaml"
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(file), timeout_s=_APPLY_S)

    def machine(self, api: Api) -> Desk:
        """What does something to whole nodes: to those that carry the platform, and to no other."""

        def allowed() -> list[str]:
            return [node["metadata"]["name"] for node in api.items("/api/v1/nodes", PLATFORM_NODES)]

        return Desk(self.name, self._nodes_state, self.kubeconfig, allowed)

    def broken_nodes(self) -> list[str]:
        """The nodes that something is done to, and what they are; likewise what of the stack. Raises `StackError`."""
        broken = [f"{host} ({told})" for host, told in broken_nodes(Docker(), self.name).items()]
        api = self.open()
        broken += [f"{host} (cordoned by {injection})" for host, injection in cordons(api).items()]
        broken += [f"StatefulSet {name} (scaled by {injection})" for name, injection in scales(api).items()]
        return broken + [f"NetworkPolicy {name} (denies for {injection})" for name, injection in denials(api).items()]

    def put_nodes_right(self) -> list[str]:
        """Has every worker run in its networks, whoever did something to it, and takes back what injections have
        cordoned, scaled and denied; a line for each. Raises `StackError`, when all were tried.
        """
        told: list[str] = []
        troubles: list[str] = []
        steps = (self._put_containers_right, self._take_cordons_back, self._take_scales_back, self._take_denials_back)
        for step in steps:
            try:
                told += step()
            except StackError as error:
                troubles.append(str(error))
        if troubles:
            raise StackError("; ".join([*troubles, *told]))
        return told

    def _put_containers_right(self) -> list[str]:
        return [f"node {host}: {', '.join(done)}" for host, done in put_all_right(Docker(), self.name).items()]

    def _take_cordons_back(self) -> list[str]:
        return [f"node {host}: takes members again" for host in take_cordons_back(self.open())]

    def _take_scales_back(self) -> list[str]:
        return [f"StatefulSet {name}: keeps {was} pods again" for name, was in take_scales_back(self.open()).items()]

    def _take_denials_back(self) -> list[str]:
        return [f"NetworkPolicy {name}: deleted" for name in take_denials_back(self.open())]

    def run(self, namespace: str, pod: str, argv: tuple[str, ...], text: str, timeout_s: float) -> str:
        """What a command in a pod prints, given ``text`` as its input. Raises `HostError`, `StackError`."""
        return self.kubectl("exec", "-i", "-n", namespace, pod, "--", *argv, timeout_s=timeout_s, text=text)

    def kubectl(self, *words: str, timeout_s: float = _QUICK_S, text: str = "") -> str:
        """What ``kubectl`` prints about this cluster and no other. Raises `HostError`, `StackError`."""
        return kubectl_output(self.kubeconfig, self.context, words, timeout_s=timeout_s, text=text)

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
    for tool, page in TOOLS.items():
        if not shutil.which(tool):
            raise HostError(f"{tool} is not on PATH: install it ({page})")
    docker_info()


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


def namespaces_up(api: Api) -> list[str]:
    """The stack's namespaces that are there. Raises `StackError` for one that is not ours, or is being ended."""
    found = []
    for name in sorted(set(NAMESPACES.values())):
        try:
            namespace = api.get(f"/api/v1/namespaces/{name}")
        except ApiError as error:
            if error.status == 404:
                continue
            raise
        if HARNESS not in namespace["metadata"].get("labels", {}):
            raise StackError(f"namespace {name} is not the harness's: it has no label {HARNESS}")
        if namespace.get("status", {}).get("phase") == "Terminating":
            raise StackError(f"namespace {name} is still being ended{_for_want_of(namespace)}: try again in a minute")
        found.append(name)
    return found


def _for_want_of(namespace: Object) -> str:
    """What a namespace waits for before it is gone, as its status says; "" if that says nothing."""
    conditions = namespace["status"].get("conditions", ())
    left = [item.get("message", "") for item in conditions if "Remaining" in item["type"] and item["status"] == "True"]
    return f" ({one_line('; '.join(left), _SHOWN)})" if left else ""


def pods(api: Api) -> list[Object]:
    """All pods of the stack."""
    spaces = sorted(set(NAMESPACES.values()))
    return [pod for space in spaces for pod in api.items(f"/api/v1/namespaces/{space}/pods", SELECTOR)]


def platform_of(cluster: Kind, api: Api, stack: Stack) -> KubernetesPlatform:
    """The stack in the cluster; its secrets stay there."""

    def secret(name: str) -> str:
        raise StackError(f"secret {name}: it is known inside the cluster {cluster.name} only")

    return KubernetesPlatform(api, stack, secret, agents=Agents(api, cluster.run, machine=cluster.machine(api)))


def config_file() -> Path:
    """The cluster as it is shipped."""
    return PROJECT_ROOT / "kind-config.yaml"


def _images_of(node: str) -> set[str]:
    listed = output(["docker", "exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q"], timeout_s=_QUICK_S)
    return {image.removeprefix("docker.io/").removeprefix("library/") for image in listed.split()}
