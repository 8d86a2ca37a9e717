"""Members as pods: found by their labels in the stack's namespaces, wherever they stand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from resilience.backend.base import MemberState
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.kubernetes.injector import Injector
from resilience.backend.kubernetes.manifests import COMPONENT, MEMBER, NAMESPACES, NODE, PART_OF
from resilience.backend.kubernetes.placement import placed
from resilience.backend.kubernetes.postgresql_tier import NAMESPACE as TIER
from resilience.backend.kubernetes.postgresql_tier import leading_to, writes
from resilience.backend.kubernetes.readiness import is_ready
from resilience.backend.settings import DATA_KEEP
from resilience.errors import FaultError, StackError
from resilience.spec.stack import Member, Stack

SELECTOR = f"{PART_OF}=harmonyflow"
DATA = "data"  # the volume that a server keeps its data in


def _no_agents(_namespace: str, pod: str, _argv: tuple[str, ...], _text: str, _timeout_s: float) -> str:
    raise FaultError(f"{pod}: this process was given no way to call agents")


class KubernetesPlatform(Injector):
    """A stack that runs in a cluster; see `backend.base.Platform`."""

    def __init__(
        self,
        api: Api,
        stack: Stack,
        secrets: Callable[[str], str],
        namespaces: Iterable[str] = (),
        agents: Agents | None = None,
    ) -> None:
        """Asks the cluster for its nodes. ``namespaces``: those to look into (none: all of the stack's). Without
        ``agents`` no fault can be done.
        """
        super().__init__(agents or Agents(api, _no_agents), self.states)
        self._api = api
        self._secrets = secrets
        self._namespaces = tuple(namespaces) or tuple(
            sorted({NAMESPACES[member.component] for member in stack.members})
        )
        self._nodes = node_names(api.items("/api/v1/nodes"))
        self._asked = stack

    @cached_property
    def stack(self) -> Stack:
        """The stack as it stands, looked up once: its members on the nodes that they run on, its shards paired so.

        Raises `StackError` where no such pairs exist.
        """
        return placed(self._asked, {state.name: state.node for state in self._found().values() if state.node})

    def states(self) -> tuple[MemberState, ...]:
        """All members, in the order of the stack file; one without a pod does not run."""
        found = self._found()
        return tuple(found.get(member.name) or absent(member) for member in self._asked.members)

    def state(self, name: str) -> MemberState:
        """One member. Raises `StackError` if there is none of that name."""
        for state in self.states():
            if state.name == name:
                return state
        raise StackError(f"{name}: the stack has no such member")

    def secret(self, name: str) -> str:
        """A secret of the stack; never to be logged. Raises `StackError`."""
        return self._secrets(name)

    def lead_writes(self, pgbouncer: str, primary: str) -> None:
        """See `backend.base.Leading`: the Service that a PgBouncer leads to. Its nodes learn of that a little later."""
        self._api.patch(f"/api/v1/namespaces/{TIER}/services/{writes(pgbouncer)}", leading_to(primary))

    def _found(self) -> dict[str, MemberState]:
        pods = [
            pod for space in self._namespaces for pod in self._api.items(f"/api/v1/namespaces/{space}/pods", SELECTOR)
        ]
        known = {member.name: member.component for member in self._asked.members}
        states = [member_state(pod, self._nodes) for pod in pods]
        return {state.name: state for state in states if known.get(state.name) == state.component}


def secret_in(folder: Path) -> Callable[[str], str]:
    """Secrets as files of a folder that is mounted."""

    def read(name: str) -> str:
        try:
            return (folder / name).read_text()
        except OSError as error:
            raise StackError(f"secret {name}: {error.strerror}") from error

    return read


def node_names(nodes: Sequence[Object]) -> dict[str, str]:
    """The name in stack files of each node of a cluster, by its label; its own name where it has none."""
    return {
        node["metadata"]["name"]: node["metadata"].get("labels", {}).get(NODE, node["metadata"]["name"])
        for node in nodes
    }


def ready_nodes(nodes: Sequence[Object]) -> dict[str, bool]:
    """Whether the cluster takes each of its nodes for ready, by the name in stack files."""
    conditions = {
        name: {item["type"]: item["status"] for item in node.get("status", {}).get("conditions", ())}
        for name, node in zip(node_names(nodes).values(), nodes, strict=True)
    }
    return {name: found.get("Ready") == "True" for name, found in conditions.items()}


def member_state(pod: Object, nodes: Mapping[str, str]) -> MemberState:
    """A pod as a member. Its identity is its container's: it changes with every start of the server."""
    metadata, status = pod["metadata"], pod.get("status", {})
    container: Object = next(iter(status.get("containerStatuses", ())), {})
    running = "running" in container.get("state", {}) and bool(status.get("podIP"))
    node = pod["spec"].get("nodeName", "")
    component = metadata.get("labels", {}).get(COMPONENT, "")
    return MemberState(
        name=metadata.get("labels", {}).get(MEMBER, metadata["name"]),
        component=component,
        node=nodes.get(node, node),
        address=status.get("podIP", ""),
        running=running,
        identity=f"{metadata['uid']}/{_container_id(container)[:12]}" if running else "",
        restarts=container.get("restartCount", 0),
        handle={
            "pod": metadata["name"],
            "namespace": metadata["namespace"],
            "pod_uid": metadata["uid"],
            "host": node,
            "container": container.get("name", ""),
            "container_id": _container_id(container),
            "ready": is_ready(pod),
            "last_exit": _ended(container).get("exitCode"),
            "ended_at": _ended(container).get("finishedAt", ""),
            "ended_id": _container_id(_ended(container)),
            "started_at": container.get("state", {}).get("running", {}).get("startedAt", ""),
            "workload": _replaced_by(metadata),
            "bound": any("persistentVolumeClaim" in volume for volume in pod["spec"].get("volumes", ())),
            **_data(pod["spec"], component),
        },
    )


def _replaced_by(metadata: Object) -> str:
    """The StatefulSet that a pod belongs to; "" if it is in none."""
    owners = [owner["name"] for owner in metadata.get("ownerReferences", ()) if owner["kind"] == "StatefulSet"]
    return str(next(iter(owners), ""))


def _ended(status: Object) -> Object:
    """How the container ended when it last did."""
    ended: Object = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    return ended


def _container_id(status: Object) -> str:
    return str(status.get("containerID", "")).rpartition("/")[2]


def _data(spec: Object, component: str) -> dict[str, Any]:
    """Where the first container keeps its data, if it has a volume for it, and what of that is never emptied."""
    mounts = spec.get("containers", [{}])[0].get("volumeMounts", ())
    path = next((mount["mountPath"] for mount in mounts if mount["name"] == DATA), "")
    return {"data_dir": path, "data_keep": DATA_KEEP.get(component, [])} if path else {}


def absent(member: Member) -> MemberState:
    """A member that has no pod now."""
    return MemberState(
        name=member.name,
        component=member.component,
        node=member.node,
        address="",
        running=False,
        identity="",
        restarts=0,
    )
