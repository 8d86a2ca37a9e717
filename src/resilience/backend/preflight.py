"""What is looked at before anything is made for a stack on kind: room, quotas, and whether its images can be had."""

import shutil
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from resilience.backend.kind import Kind, config_file, docker_info
from resilience.backend.kubernetes.api import Api, Object
from resilience.backend.kubernetes.images import DEBIAN, PROJECT, Images, is_here, override, repository
from resilience.backend.kubernetes.manifests import overlay_folder
from resilience.backend.kubernetes.needs import Needs, needs_of, nodes_by_role
from resilience.backend.kubernetes.platform import SELECTOR
from resilience.backend.kubernetes.quota import lacks_quota
from resilience.backend.kubernetes.tiers import NOTHING_MORE, Extent, clients_of, manifests_of
from resilience.backend.kubernetes.workload import run_objects
from resilience.backend.memory import available_bytes
from resilience.backend.tool import output
from resilience.errors import HostError, StackError

GIB = 1024**3
# Beside the requests: what an idle cluster of five nodes takes, and, as an estimate, what servers use above their
# requests and the harness outside.
CLUSTER_MEMORY_BYTES, SPARE_MEMORY_BYTES = int(0.8 * GIB), int(0.5 * GIB)
# An estimate of what the machine's own system takes, where it is not known what is free beside that.
SYSTEM_MEMORY_BYTES = GIB
NODE_PROCESSORS = 0.1  # requested on each node by kind's own network
# An estimate: the node image once, and 1 GB of images in each of four workers, which is what Debian's take.
CLUSTER_DISK_BYTES = 5 * GIB
_RENDER_S, _REGISTRY_S = 30.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What Docker runs on."""

    memory_bytes: int
    memory_free_bytes: int | None  # None: that is not known
    processors: int
    disk_free_bytes: int | None  # where Docker keeps its data; None: that is not on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """What there is already of what would be made."""

    cluster: Kind | None = None
    stack: bool = False  # it stands in the cluster, and goes before another one comes


def stack_objects(extent: Extent = NOTHING_MORE, overlay: str = "kind") -> list[Object]:
    """All that a run of that extent needs in a cluster: what is applied, and what the run adds.

    Raises `HostError`, `StackError`.
    """
    folders = [overlay_folder(overlay), *map(manifests_of, extent.tiers)]
    texts = [output(["kubectl", "kustomize", str(folder)], timeout_s=_RENDER_S) for folder in folders]
    return [
        *(msgspec.yaml.decode(part, type=Object) for text in texts for part in text.split("\n---\n") if part.strip()),
        *_run_objects(extent),
    ]


def _run_objects(extent: Extent) -> list[Object]:
    return run_objects(PROJECT, extent.workers, clients_of(extent.tiers))


def require_room(objects: Sequence[Object], there: There, extent: Extent = NOTHING_MORE) -> None:
    """Raises `HostError` that says how much is missing beside what is there already."""
    nodes = nodes_by_role(msgspec.yaml.decode(config_file().read_bytes()))
    needs = needs_of(objects, nodes)
    added = needs_of(_run_objects(extent), nodes) if there.stack else needs
    of = machine(docker_info(), there.cluster)
    found = [*lacks_memory(of, needs, added, making=there.cluster is None)]
    found += lacks(of, needs, making=there.cluster is None)
    if found:
        raise HostError(f"this stack does not fit on this machine: {'; '.join(found)}")


def require_quota(
    objects: Sequence[Object], api: Api, spaces: Iterable[str], nodes: Mapping[str, int] | None = None
) -> None:
    """Raises `HostError` where a ResourceQuota leaves too little for the stack in these namespaces, which are there and
    stay: those of a stack go with it, and their quotas. ``nodes``: how many there are of each role (default: as on
    kind). Raises `ApiError`.
    """
    nodes = nodes or nodes_by_role(msgspec.yaml.decode(config_file().read_bytes()))
    found: list[str] = []
    for space in spaces:
        wanted = [item for item in objects if item.get("metadata", {}).get("namespace") == space]
        quotas = api.items(f"/api/v1/namespaces/{space}/resourcequotas")
        there = [{**pod, "kind": "Pod"} for pod in api.items(f"/api/v1/namespaces/{space}/pods", SELECTOR)]
        found += lacks_quota(quotas, wanted, there, nodes)
    if found:
        raise HostError(f"this stack does not fit into the cluster: {'; '.join(found)}")


def machine(info: Object, cluster: Kind | None = None) -> Machine:
    """What Docker says of its machine, and how much room there is if that is this one, or a node can be asked."""
    here = info.get("Name") == socket.gethostname()
    return Machine(
        memory_bytes=int(info.get("MemTotal", 0)),
        memory_free_bytes=_memory_free_bytes(cluster, here=here),
        processors=int(info.get("NCPU", 0)),
        disk_free_bytes=_disk_free_bytes(str(info.get("DockerRootDir", ""))) if here else None,
    )


def _memory_free_bytes(cluster: Kind | None, *, here: bool) -> int | None:
    """Nodes share one kernel with whatever else Docker's machine does, and that tells each of them the same."""
    try:
        told = Path("/proc/meminfo").read_text() if here else cluster.meminfo() if cluster else ""
    except (OSError, StackError):  # no Linux, or a node that is away: the whole memory is known all the same
        return None
    return available_bytes(told) or None


def _disk_free_bytes(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:  # it cannot be looked at from here: a disk that is full says so later
        return None


def lacks_memory(of: Machine, needs: Needs, added: Needs, *, making: bool) -> Iterator[str]:
    """How much memory is missing for what is ``added``; for all that is needed where it is not known what is free.

    Pure.
    """
    if of.memory_free_bytes is None:
        total = needs.memory_bytes + CLUSTER_MEMORY_BYTES + SPARE_MEMORY_BYTES + SYSTEM_MEMORY_BYTES
        if of.memory_bytes < total:
            yield _too_little("memory", of.memory_bytes, total, f"requests are {needs.memory_bytes / GIB:.1f}")
        return
    free = added.memory_bytes + SPARE_MEMORY_BYTES + (CLUSTER_MEMORY_BYTES if making else 0)
    if of.memory_free_bytes < free:
        part = f"of {of.memory_bytes / GIB:.1f} in all; requests are {added.memory_bytes / GIB:.1f}"
        yield _too_little("free memory", of.memory_free_bytes, free, part)


def lacks(of: Machine, needs: Needs, *, making: bool) -> Iterator[str]:
    """What else is too small, and by how much. Pure."""
    processors = needs.node_processors + NODE_PROCESSORS
    if of.processors < processors:
        yield f"one node is asked for {processors:.2g} processors, Docker has {of.processors}"
    disk = needs.storage_bytes + (CLUSTER_DISK_BYTES if making else 0)
    if of.disk_free_bytes is not None and of.disk_free_bytes < disk:
        yield _too_little("free disk", of.disk_free_bytes, disk, f"volumes are {needs.storage_bytes / GIB:.1f}")


def _too_little(what: str, has_bytes: int, needs_bytes: int, of_that: str) -> str:
    lack = (needs_bytes - has_bytes) / GIB
    return (
        f"Docker has {has_bytes / GIB:.1f} GiB of {what}, {lack:.1f} GiB too little for the {needs_bytes / GIB:.1f}"
        f" that are needed ({of_that})"
    )


def require_images(used: Iterable[str], images: Images, held: Collection[str]) -> None:
    """Raises `HostError` for an image that no registry has, and no node either (``held``): which, why, what to set."""
    wanted = [image for image in pulled(used, images) if image not in held]
    with ThreadPoolExecutor(max(1, len(wanted))) as threads:
        found = [why for why in threads.map(_refused, wanted) if why]
    if found:
        raise HostError("; ".join(found))


def pulled(used: Iterable[str], images: Images) -> Iterator[str]:
    """The images that nodes pull: not those that are built here, nor replaced by one that Docker has."""
    for image in sorted(used):
        name = repository(image)
        if name == PROJECT or (images.debian and name in DEBIAN):
            continue
        replaced = images.replaced.get(name)
        if replaced is None or not is_here(replaced):
            yield replaced or image


def _refused(image: str) -> str:
    """Why an image cannot be had, and what may be done; "" if it can. Nothing of it is pulled."""
    try:
        output(["docker", "manifest", "inspect", image], timeout_s=_REGISTRY_S)
    except StackError as error:
        return f"image {image} cannot be pulled ({error}): {override(image)}"
    return ""
