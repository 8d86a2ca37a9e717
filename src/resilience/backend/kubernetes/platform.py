"""Members as pods: found by their labels in the stack's namespaces, wherever they stand."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from resilience.backend.base import MemberState
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.kubernetes.manifests import COMPONENT, NAMESPACES, NODE, PART_OF
from resilience.backend.kubernetes.placement import placed
from resilience.errors import StackError
from resilience.spec.stack import Member, Stack

SELECTOR = f"{PART_OF}=harmonyflow"
MEMBER = "harmonyflow.dev/member"  # on pods that a controller gives random names


class KubernetesPlatform:
    """A stack that runs in a cluster; see `backend.base.Platform`."""

    def __init__(self, api: Api, stack: Stack, secrets: Callable[[str], str], namespaces: Iterable[str] = ()) -> None:
        """Asks the cluster for its nodes. ``namespaces``: those to look into (none: all of the stack's)."""
        self._api = api
        self._secrets = secrets
        self._namespaces = tuple(namespaces) or tuple(sorted(set(NAMESPACES.values())))
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


def member_state(pod: Object, nodes: Mapping[str, str]) -> MemberState:
    """A pod as a member. Its identity is its container's: it changes with every start of the server."""
    metadata, status = pod["metadata"], pod.get("status", {})
    container: Object = next(iter(status.get("containerStatuses", ())), {})
    running = "running" in container.get("state", {}) and bool(status.get("podIP"))
    node = pod["spec"].get("nodeName", "")
    return MemberState(
        name=metadata.get("labels", {}).get(MEMBER, metadata["name"]),
        component=metadata.get("labels", {}).get(COMPONENT, ""),
        node=nodes.get(node, node),
        address=status.get("podIP", ""),
        running=running,
        identity=f"{metadata['uid']}/{container.get('containerID', '').rpartition('/')[2][:12]}" if running else "",
        restarts=container.get("restartCount", 0),
        handle={
            "pod": metadata["name"],
            "namespace": metadata["namespace"],
            "pod_uid": metadata["uid"],
            "host": node,
            "container": container.get("name", ""),
        },
    )


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
