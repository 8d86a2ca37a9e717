"""One cluster that stacks stand in, whoever made it: filled with manifests, emptied, asked, put right.

It is always known by a kubeconfig of the harness's own and a context in that; nothing is ever taken from "the current
context". Nothing is done in a namespace without the harness's label.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from secrets import token_hex

from resilience.backend.kubernetes import manifests
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.kubernetes.manifests import HARNESS, NAMESPACES, PLATFORM_NODES
from resilience.backend.kubernetes.platform import SELECTOR, KubernetesPlatform
from resilience.backend.kubernetes.tiers import all_settings, manifests_of, tiers_of
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.machine.control_plane import cordons, take_cordons_back
from resilience.backend.machine.deny import denials, take_denials_back
from resilience.backend.machine.desk import Desk
from resilience.backend.machine.scale import scales, take_scales_back
from resilience.backend.tool import kubectl_output, one_line
from resilience.errors import StackError
from resilience.spec.stack import Stack

AGENTS = NAMESPACES["agent"]  # the namespace that outlives a stack: what undoes faults, and the lock
_CLEAR_S = 180.0
_SHOWN = 200  # characters of what a namespace waits for
_QUICK_S, _APPLY_S = 30.0, 120.0


class Cluster(ABC):
    """One cluster by name."""

    def __init__(self, folder: Path, *, stack: str, name: str, context: str, kubeconfig: Path, overlay: str) -> None:
        """``folder`` keeps what was applied and what is done to nodes; ``stack`` is what people ask for it by
        (``--stack``), ``overlay`` what is applied. Looks at nothing.
        """
        self.stack = stack
        self.name = name
        self.context = context
        self.kubeconfig = kubeconfig
        self.applied = folder / f"{name}-applied"
        self.overlay = overlay
        self._nodes_state = folder / f"{name}-nodes"

    @property
    @abstractmethod
    def rule(self) -> str:
        """By which rule anything may be done in it, in a line."""

    @abstractmethod
    def require_looking(self) -> None:
        """Raises `HostError` without what looks at it on this machine."""

    @abstractmethod
    def require_filling(self) -> None:
        """Raises `HostError` without what fills it."""

    @abstractmethod
    def servers(self) -> str:
        """Which servers a stack has in it, in words that change with them. Raises `SpecError`."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a cluster of that name, ours or not. Raises `HostError`, `StackError`."""

    @abstractmethod
    def open(self) -> Api:
        """Its API, once it is known that the harness may use it. Raises `StackError`."""

    @abstractmethod
    def load(self, images: Iterable[str]) -> None:
        """Sees to it that its nodes have these images or can pull them. Raises `HostError`, `StackError`."""

    @abstractmethod
    def doors(self, api: Api) -> tuple[tuple[str, str], ...]:
        """The addresses by which people get in. Raises `StackError`."""

    @abstractmethod
    def favour_observer(self, api: Api) -> None:
        """Lets the observer's node have the processors first, where nodes share them. Raises `HarnessError`."""

    @abstractmethod
    def machine(self, api: Api) -> Desk:
        """What does something to whole nodes, and what the cluster is told to do: to those that carry the platform, and
        to no other.
        """

    def machine_refused(self, api: Api) -> str:
        """Why the machine can do nothing here, not even tell the cluster; "" if it can. Raises `StackError`."""
        del api
        return ""

    def provided(self, replaced: Mapping[str, str]) -> dict[str, str]:
        """The images that take the place of official ones, as its nodes will have them. Raises `HostError`,
        `StackError`.
        """
        return dict(replaced)

    @abstractmethod
    def delete(self) -> None:
        """Takes away what the harness has made, and what is kept of it. Raises `StackError`."""

    def forget(self) -> None:
        """Removes what is kept of it on this machine."""
        self.kubeconfig.unlink(missing_ok=True)
        shutil.rmtree(self.applied, ignore_errors=True)
        shutil.rmtree(self._nodes_state, ignore_errors=True)

    def apply(self, stack: Stack, images: Mapping[str, str]) -> None:
        """Applies the overlay, and the stack's tiers, with its settings and new passwords. Raises `StackError`."""
        shutil.rmtree(self.applied, ignore_errors=True)
        resources = [manifests.overlay_folder(self.overlay), *map(manifests_of, tiers_of(stack))]
        new = cache(lambda _name: token_hex(24))
        manifests.write(self.applied, resources, all_settings(stack, new), images)
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

    def broken_nodes(self) -> list[str]:
        """The nodes that something is done to, and what they are; likewise what of the stack. Raises `StackError`."""
        api = self.open()
        broken = [f"{host} (cordoned by {injection})" for host, injection in cordons(api).items()]
        broken += [f"StatefulSet {name} (scaled by {injection})" for name, injection in scales(api).items()]
        return broken + [f"NetworkPolicy {name} (denies for {injection})" for name, injection in denials(api).items()]

    def put_nodes_right(self) -> list[str]:
        """Puts right what was done to nodes and takes back what injections have cordoned, scaled and denied, whoever
        did it; a line for each. Raises `StackError`, when all were tried.
        """
        told: list[str] = []
        troubles: list[str] = []
        for step in self._steps_right():
            try:
                told += step()
            except StackError as error:
                troubles.append(str(error))
        if troubles:
            raise StackError("; ".join([*troubles, *told]))
        return told

    def _steps_right(self) -> Sequence[Callable[[], list[str]]]:
        return self._take_cordons_back, self._take_scales_back, self._take_denials_back

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


def platform_nodes(api: Api) -> list[str]:
    """The nodes that carry the platform, by their own names: no other may suffer. Raises `ApiError`."""
    return [node["metadata"]["name"] for node in api.items("/api/v1/nodes", PLATFORM_NODES)]


def namespaces_up(api: Api) -> list[str]:
    """The stack's namespaces that are there. Raises `StackError` for one that is not ours, or is being ended."""
    found = []
    for name in sorted(set(NAMESPACES.values())):
        namespace = api.find(f"/api/v1/namespaces/{name}")
        if namespace is None:
            continue
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


def platform_of(cluster: Cluster, api: Api, stack: Stack) -> KubernetesPlatform:
    """The stack in the cluster; its secrets stay there."""

    def secret(name: str) -> str:
        raise StackError(f"secret {name}: it is known inside the cluster {cluster.name} only")

    return KubernetesPlatform(api, stack, secret, agents=Agents(api, cluster.run, machine=cluster.machine(api)))
