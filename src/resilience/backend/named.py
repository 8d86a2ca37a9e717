"""Clusters that the user's file names: `clusters.yaml` in their folder of settings.

A stack stands in one only if its context leads to the API server that the file says (`kubernetes.kubeconfig`), and the
file is one that nobody else could have written. The cluster itself is never made and never ended, nor are its nodes
stopped: nothing is known of what is under them.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from resilience.agent.node import BOOT_ID
from resilience.backend.kind import docker_info, require_tool
from resilience.backend.kubernetes import images
from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.backend.kubernetes.cluster import AGENTS, Cluster, namespaces_up, platform_nodes
from resilience.backend.kubernetes.kubeconfig import pinned
from resilience.backend.kubernetes.manifests import HARNESS, NAMESPACES, NODE, PLATFORM_NODES
from resilience.backend.kubernetes.needs import ROLE
from resilience.backend.local.place import (
    PROJECT_ROOT,
    Owner,
    cache_dir,
    calling_user,
    config_dir,
    hand_over,
    trouble_with_keeping,
)
from resilience.backend.machine.desk import Desk
from resilience.errors import HostError, SpecError, StackError
from resilience.spec.cluster import NamedCluster, cluster_named, read_clusters
from resilience.spec.convert import refuse, show_name
from resilience.spec.stack import OBSERVER

FILE = "clusters.yaml"
STACK = "kubernetes"  # before the name: --stack kubernetes:NAME
ZONE = "topology.kubernetes.io/zone"
_BUILT_HERE = "harmonyflow/"  # images that no registry has
_CLEAR_S = 180.0
_ASKED_S = 10.0  # of a cluster that is only looked for
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
PATHS: Mapping[str, str] = {  # what a stack has outside of namespaces
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "ClusterRole": f"{_RBAC}/clusterroles",
    "ClusterRoleBinding": f"{_RBAC}/clusterrolebindings",
}
PLATFORM = ("node-1", "node-2", "node-3")  # as stack files name the nodes


class Named(Cluster):
    """One cluster of that file."""

    def __init__(self, folder: Path, name: str, entry: NamedCluster, kubeconfig: Path, where: str) -> None:
        """``kubeconfig``: the copy of what was looked at; ``where``: its entry in messages. Looks at nothing."""
        super().__init__(
            folder,
            stack=f"{STACK}:{name}",
            name=name,
            context=entry.context,
            kubeconfig=kubeconfig,
            overlay=entry.overlay,
        )
        self.entry = entry
        self._where = where

    @property
    def rule(self) -> str:
        """See `Cluster`."""
        return f"cluster {self.name}: {self._where} names context {self.context}, which leads to {self.entry.server}"

    def require_looking(self) -> None:
        """See `Cluster`."""
        require_tool("kubectl")

    def require_filling(self) -> None:
        """See `Cluster`: images are built by Docker."""
        for tool in ("docker", "kubectl"):
            require_tool(tool)
        docker_info()

    def servers(self) -> str:
        """See `Cluster`: a control that another cluster passed says nothing of this one."""
        return f"{self.entry.server}, {images.described(os.environ, self.overlay)}"

    def exists(self) -> bool:
        """It is for others to make; whether it answers is seen when it is opened."""
        return True

    def open(self) -> Api:
        """See `Cluster`: what it leads to was looked at when it was found."""
        api = Api.of_context(self.kubeconfig, self.context)
        version_of(self, api)
        return api

    def load(self, images: Iterable[str]) -> None:
        """Nothing: `provided` has seen to it."""

    def doors(self, api: Api) -> tuple[tuple[str, str], ...]:
        """None: who may get in from where is the cluster's own affair."""
        del api
        return ()

    def favour_observer(self, api: Api) -> None:
        """Nothing: its nodes share no machine that is known here."""

    def machine(self, api: Api) -> Desk:
        """See `Cluster`: what the API does; no node is stopped."""
        return Desk(
            self.name,
            self._nodes_state,
            self.kubeconfig,
            lambda: platform_nodes(api),
            stack=self.stack,
            context=self.context,
        )

    def machine_refused(self, api: Api) -> str:
        """See `Cluster`: its runner tells instants by its own kernel's clock, and the machine takes no other."""
        observers = api.items("/api/v1/nodes", f"{NODE}={OBSERVER}")
        kernels = {str(node.get("status", {}).get("nodeInfo", {}).get("bootID", "")) for node in observers}
        if BOOT_ID.exists() and kernels == {BOOT_ID.read_text().strip()}:
            return ""
        return (
            f"what the API of {self.name} is told comes from this machine, whose clock is not that of its nodes"
            " (another kernel): such a fault is not possible there"
        )

    def provided(self, replaced: Mapping[str, str]) -> dict[str, str]:
        """The images that take the place of official ones, such as its nodes have or can pull: the project's own is
        pushed where the entry names a repository. Raises `HostError`, `StackError`.
        """
        found = dict(replaced)
        if self.entry.repository:
            found[images.PROJECT] = images.pushed(found[images.PROJECT], self.entry.repository)
        lacking = lacks_images(self.open().items("/api/v1/nodes", ROLE), found.values())
        if lacking:
            raise HostError(f"{'; '.join(lacking)}: load it there, or have it pushed (repository in {self._where})")
        return found

    def delete(self) -> None:
        """Deletes all that is the harness's in it, and what is kept of it here; the cluster stays. Raises
        `StackError`.
        """
        self._delete_spaces([*NAMESPACES.values()])
        self.kubectl("delete", ",".join(map(str.lower, PATHS)), "-l", HARNESS, "--ignore-not-found", timeout_s=_CLEAR_S)
        self.forget()

    def clear(self) -> None:
        """See `Cluster`; by label as well: somebody else's namespace may take the name at any time."""
        self._delete_spaces([space for space in NAMESPACES.values() if space != AGENTS])

    def _delete_spaces(self, names: Iterable[str]) -> None:
        which = f"{HARNESS},kubernetes.io/metadata.name in ({','.join(sorted({*names}))})"
        wait = ("--ignore-not-found", "--wait", f"--timeout={_CLEAR_S:g}s")
        self.kubectl("delete", "namespaces", "-l", which, *wait, timeout_s=_CLEAR_S)


def named_cluster(name: str, owner: Owner | None = None) -> Named:
    """The cluster that the file has under this name, known to lead where it says. Raises `SpecError`: nothing was asked
    of any cluster.
    """
    owner = owner or calling_user()
    file = clusters_file(owner)
    clusters = _read(file, owner)
    entry = cluster_named(clusters, name, _label(file))
    where = f"{_label(file)}: {name}"
    overlays = _overlays()
    if entry.overlay not in overlays:
        raise refuse(_label(file), f"{name}.overlay", f"expected one of {', '.join(overlays)}", entry.overlay)
    kubeconfig = _expanded(entry.kubeconfig, owner, where)
    _require_kept(kubeconfig, owner)
    found = pinned(kubeconfig, entry, where)
    folder = cache_dir(owner) / "clusters"
    copy = folder / f"{name}-{found.mark}.kubeconfig"
    try:
        found.save(copy)
    except OSError as error:
        raise HostError(f"{copy}: {error.strerror}") from error
    hand_over(folder, owner)
    return Named(folder, name, entry, copy, where)


def names() -> tuple[str, ...]:
    """The clusters that the file names, in its order; none without a file. Raises `SpecError`."""
    owner = calling_user()
    file = clusters_file(owner)
    return tuple(_read(file, owner)) if file.exists() else ()


def clusters_file(owner: Owner) -> Path:
    """Where it is, or would be."""
    return config_dir(owner) / FILE


def version_of(cluster: Named, api: Api) -> str:
    """Which Kubernetes its API server says it is. Raises `StackError` if it does not answer."""
    try:
        return str(api.get("/version").get("gitVersion", "of no known version"))
    except ApiError as error:
        raise StackError(f"the cluster {cluster.name} ({cluster.entry.server}) cannot be asked: {error}") from error


def reached(name: str) -> str:
    """What can be said of a cluster of the file that answers. Raises `SpecError`, `StackError`."""
    cluster = named_cluster(name)
    version = version_of(cluster, Api.of_context(cluster.kubeconfig, cluster.context, patience_s=0.0))
    return f"context {cluster.context}, {cluster.entry.server}, Kubernetes {version}"


def roles_of(nodes: Sequence[Object]) -> list[str]:
    """The role of each node that has one."""
    return [labels[ROLE] for node in nodes if ROLE in (labels := node["metadata"].get("labels") or {})]


def require_ours(api: Api, objects: Iterable[Object]) -> None:
    """Raises `StackError` where something of somebody else's has the name of what a stack has outside of namespaces."""
    namespaces_up(api)
    for item in objects:
        if path := PATHS.get(item["kind"]):
            name = item["metadata"]["name"]
            found = api.find(f"{path}/{name}")
            if found and HARNESS not in (found["metadata"].get("labels") or {}):
                raise StackError(f"{item['kind']} {name} is not the harness's: it has no label {HARNESS}")


def lacks_nodes(nodes: Sequence[Object], wanted: Sequence[str] = PLATFORM) -> Iterator[str]:
    """What of the nodes that a stack stands on is not there; pure. ``wanted``: their names in stack files."""
    labels = [{**(node["metadata"].get("labels") or {}), "": node["metadata"]["name"]} for node in nodes]
    role, _, platform = PLATFORM_NODES.partition("=")
    carrying = [one for one in labels if one.get(role) == platform]
    counted = Counter(one.get(NODE, "") for one in carrying)
    for name in wanted:
        if counted[name] != 1:
            yield f"{counted[name]} nodes are labelled {PLATFORM_NODES},{NODE}={name}, expected one"
    for one in carrying:
        if one.get(NODE) not in wanted:
            yield f"node {one['']} is labelled {PLATFORM_NODES}, and is none of {', '.join(wanted)} by {NODE}"
        if not one.get(ZONE):
            yield f"node {one['']} has no label {ZONE}"
    watching = [one for one in labels if one.get(role) == OBSERVER and one.get(NODE) == OBSERVER]
    if len(watching) != 1:
        yield f"{len(watching)} nodes are labelled {role}={OBSERVER},{NODE}={OBSERVER}, expected one"


def lacks_images(nodes: Sequence[Object], wanted: Iterable[str]) -> list[str]:
    """The images that only this machine has built, and which nodes are without: pure."""
    return [
        f"image {image} is built here and is not on {', '.join(without)}"
        for image in wanted
        if image.startswith(_BUILT_HERE)
        and (without := [node["metadata"]["name"] for node in nodes if image not in images_on(node)])
    ]


def images_on(node: Object) -> set[str]:
    """The images that a node says it has, by the names that people use."""
    listed = node.get("status", {}).get("images") or ()
    found = {name for one in listed for name in one.get("names") or ()}
    return {name.removeprefix("docker.io/").removeprefix("library/") for name in found}


def _read(file: Path, owner: Owner) -> dict[str, NamedCluster]:
    if file.exists():
        _require_kept(file, owner)
    return read_clusters(file, _label(file))


def _require_kept(path: Path, owner: Owner) -> None:
    """Raises `SpecError` for a file that somebody else could change: it decides which cluster is broken."""
    try:
        trouble = trouble_with_keeping(path, owner)
    except OSError as error:
        raise SpecError(f"{_label(path)}: the file: cannot be read ({error.strerror})") from error
    if trouble:
        raise SpecError(f"{_label(path)}: the file: {trouble}")


def _expanded(text: str, owner: Owner, where: str) -> Path:
    """A path of the file: absolute, or below the user's home."""
    path = owner.home / text.removeprefix("~/") if text.startswith("~/") else Path(text)
    if not path.is_absolute():
        raise SpecError(f"{where}.kubeconfig: expected a path that begins with / or ~/ (got {text[:60]!r})")
    return path


def _overlays() -> list[str]:
    """What may be applied; the base alone has no versions of images."""
    folder = PROJECT_ROOT / "stacks" / "kubernetes"
    return sorted(path.parent.name for path in folder.glob("*/kustomization.yaml") if path.parent.name != "base")


def _label(path: Path) -> str:
    return show_name(str(path))
