"""What is looked at before anything is made for a stack on kind: whether there is room, and its images can be had."""

import shutil
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from resilience.backend.kind import config_file, docker_info
from resilience.backend.kubernetes.api import Object
from resilience.backend.kubernetes.images import DEBIAN_ENTRYPOINTS, PROJECT, Images, is_here, override, repository
from resilience.backend.kubernetes.needs import Needs, needs_of, nodes_by_role
from resilience.backend.kubernetes.workload import run_objects
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.tool import output
from resilience.errors import HostError, StackError

GIB = 1024**3
# Beside the requests: what an idle cluster of five nodes takes, and, as an estimate, what servers use above their
# requests, the machine's own system and the harness outside.
CLUSTER_MEMORY_BYTES, SPARE_MEMORY_BYTES = int(0.8 * GIB), int(1.5 * GIB)
NODE_PROCESSORS = 0.1  # requested on each node by kind's own network
# An estimate: the node image once, and 1 GB of images in each of four workers, which is what Debian's take.
CLUSTER_DISK_BYTES = 5 * GIB
_RENDER_S, _REGISTRY_S = 30.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What Docker runs on."""

    memory_bytes: int
    processors: int
    disk_free_bytes: int | None  # where Docker keeps its data; None: that is not on this machine


def stack_objects() -> list[Object]:
    """All that a run needs in a cluster: what is applied, and what the run adds. Raises `HostError`, `StackError`."""
    overlay = PROJECT_ROOT / "stacks" / "kubernetes" / "kind"
    text = output(["kubectl", "kustomize", str(overlay)], timeout_s=_RENDER_S)
    return [
        *(msgspec.yaml.decode(part, type=Object) for part in text.split("\n---\n") if part.strip()),
        *run_objects(PROJECT),
    ]


def require_room(objects: Sequence[Object], *, making: bool) -> None:
    """Raises `HostError` that says how much is missing; ``making``: the cluster is not there yet."""
    nodes = nodes_by_role(msgspec.yaml.decode(config_file().read_bytes()))
    if found := list(lacks(machine(docker_info()), needs_of(objects, nodes), making=making)):
        raise HostError(f"this stack does not fit on this machine: {'; '.join(found)}")


def machine(info: Object) -> Machine:
    """What Docker says of its machine, and how much room there is if that is this one."""
    free = None
    if info.get("Name") == socket.gethostname():
        try:
            free = shutil.disk_usage(str(info.get("DockerRootDir", ""))).free
        except OSError:  # it cannot be looked at from here: a disk that is full says so later
            free = None
    return Machine(memory_bytes=int(info.get("MemTotal", 0)), processors=int(info.get("NCPU", 0)), disk_free_bytes=free)


def lacks(of: Machine, needs: Needs, *, making: bool) -> Iterator[str]:
    """What is too small, and by how much. Pure."""
    memory = needs.memory_bytes + CLUSTER_MEMORY_BYTES + SPARE_MEMORY_BYTES
    if of.memory_bytes < memory:
        yield _too_little("memory", of.memory_bytes, memory, f"requests are {needs.memory_bytes / GIB:.1f}")
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
        if name == PROJECT or (images.debian and name in DEBIAN_ENTRYPOINTS):
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
