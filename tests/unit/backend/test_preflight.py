"""What is refused before anything is made on kind, and what is not."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from resilience.backend.kind import Kind
from resilience.backend.kubernetes.images import Images
from resilience.backend.kubernetes.needs import Needs
from resilience.backend.kubernetes.tiers import Extent
from resilience.backend.preflight import (
    GIB,
    Machine,
    There,
    lacks,
    lacks_memory,
    machine,
    pulled,
    require_images,
    require_room,
    stack_objects,
)
from resilience.errors import HostError, StackError
from tests.unit.backend.kubernetes.cluster import Object
from tests.unit.backend.test_kind import tool

NEEDS = Needs(memory_bytes=2 * GIB, node_processors=1.4, storage_bytes=10 * GIB)
ENOUGH = Machine(memory_bytes=5 * GIB, memory_free_bytes=None, processors=2, disk_free_bytes=15 * GIB)
OFFICIAL = ("redis:7.4.2", "prom/prometheus:v2", "harmonyflow/resilience:dev")


@pytest.mark.parametrize(
    ("of", "making", "words"),
    [
        (ENOUGH, True, []),
        (replace(ENOUGH, processors=1), True, ["one node is asked for 1.5 processors, Docker has 1"]),
        (
            replace(ENOUGH, disk_free_bytes=12 * GIB),
            True,
            ["Docker has 12.0 GiB of free disk, 3.0 GiB too little for the 15.0 that are needed (volumes are 10.0)"],
        ),
        (replace(ENOUGH, disk_free_bytes=12 * GIB), False, []),
        (replace(ENOUGH, disk_free_bytes=None), True, []),
    ],
    ids=["enough", "processors", "disk", "disk beside a cluster", "disk elsewhere"],
)
def test_how_much_is_missing_is_told(of: Machine, making: bool, words: list[str]):
    assert list(lacks(of, NEEDS, making=making)) == words


ADDED = replace(NEEDS, memory_bytes=GIB // 2)  # by a run, to a stack that stands
BUSY = replace(ENOUGH, memory_bytes=32 * GIB)  # large, and taken by something else


@pytest.mark.parametrize(
    ("of", "added", "making", "words"),
    [
        (replace(BUSY, memory_free_bytes=int(3.3 * GIB)), NEEDS, True, ""),
        (
            replace(BUSY, memory_free_bytes=3 * GIB),
            NEEDS,
            True,
            "free memory, 0.3 GiB too little for the 3.3 that are needed (of 32.0 in all; requests are 2.0)",
        ),
        (replace(BUSY, memory_free_bytes=3 * GIB), NEEDS, False, ""),
        (replace(BUSY, memory_free_bytes=2 * GIB), NEEDS, False, "0.5 GiB too little for the 2.5"),
        (replace(BUSY, memory_free_bytes=GIB), ADDED, False, ""),
        (replace(BUSY, memory_free_bytes=GIB - 1), ADDED, False, "requests are 0.5"),
        (replace(ENOUGH, memory_bytes=int(4.3 * GIB)), ADDED, False, ""),
        (
            replace(ENOUGH, memory_bytes=2 * GIB),
            ADDED,
            False,
            "Docker has 2.0 GiB of memory, 2.3 GiB too little for the 4.3 that are needed (requests are 2.0)",
        ),
    ],
    ids=[
        "enough for all", "all", "enough beside a cluster", "beside a cluster", "enough beside a stack",
        "beside a stack", "enough, if nobody else takes it", "even if nobody else takes any",
    ],
)  # fmt: skip
def test_how_much_memory_is_missing_of_what_is_free(of: Machine, added: Needs, making: bool, words: str):
    found = list(lacks_memory(of, NEEDS, added, making=making))
    assert len(found) == (1 if words else 0)
    assert words in "".join(found)


def test_all_that_is_missing_is_told_at_once(tools: Path):
    tool(tools, "docker", '{"MemTotal": 1073741824, "NCPU": 0}')
    with pytest.raises(HostError, match=r"fit on this machine: Docker has 1.0 GiB of memory, .*; one node is asked"):
        require_room(ASKING, There())


def info(**changes: object) -> Object:
    return {"MemTotal": 8 * GIB, "NCPU": 4, "Name": socket.gethostname(), "DockerRootDir": "/", **changes}


def test_a_disk_is_looked_at_where_docker_runs_on_this_machine():
    found = machine(info())
    assert (found.memory_bytes, found.processors) == (8 * GIB, 4)
    assert found.disk_free_bytes
    assert machine(info(Name="elsewhere")).disk_free_bytes is None
    assert machine(info(DockerRootDir="/no/such/folder")).disk_free_bytes is None


ASKING = [{"kind": "Pod", "spec": {"containers": [{"resources": {"requests": {"memory": "9Gi"}}}]}}]


class Nodes(Kind):
    """A cluster of which a node says this of its memory, or cannot be asked."""

    def __init__(self, told: str) -> None:
        super().__init__(Path("nowhere"))
        self.told = told

    def meminfo(self) -> str:
        if not self.told:
            raise StackError("hf-control-plane: it is paused")
        return self.told


@pytest.mark.parametrize(
    ("cluster", "free"),
    [(Nodes("MemAvailable:  2097152 kB\n"), 2 * GIB), (Nodes("no Linux"), None), (Nodes(""), None), (None, None)],
    ids=["told", "untold", "away", "no cluster"],
)
def test_what_is_free_on_another_machine_is_asked_of_a_node(cluster: Kind | None, free: int | None):
    assert machine(info(Name="elsewhere"), cluster).memory_free_bytes == free


def test_what_is_free_on_this_machine_is_asked_of_its_kernel():
    available = machine(info(), Nodes("MemAvailable:  1 kB\n")).memory_free_bytes
    assert available
    assert available > 1024


def test_a_node_is_asked_by_docker(tools: Path):
    tool(tools, "docker", "MemAvailable:  42 kB")
    assert Kind(Path("nowhere"), "hf").meminfo() == "MemAvailable:  42 kB\n"
    assert (tools / "docker.asked").read_text().split() == ["exec", "hf-control-plane", "cat", "/proc/meminfo"]


FREE = "MemAvailable:  1048576 kB"  # 1 GiB


@pytest.mark.parametrize(
    ("objects", "there", "refused"),
    [
        (ASKING, There(), "8.0 GiB of memory, 3.3 GiB too little"),
        ([], There(), ""),
        (ASKING, There(cluster=Nodes(FREE)), "1.0 GiB of free memory, 8.5 GiB too little"),
        (ASKING, There(cluster=Nodes(FREE), stack=True), ""),
    ],
    ids=["all of it", "nothing", "beside a cluster", "beside a stack of its kind"],
)
def test_a_stack_that_does_not_fit_is_refused(tools: Path, objects: list[Object], there: There, refused: str):
    tool(tools, "docker", '{"MemTotal": 8589934592, "NCPU": 2}')
    if refused:
        with pytest.raises(HostError, match=f"does not fit on this machine: Docker has {refused}"):
            require_room(objects, there)
    else:
        require_room(objects, there)


def test_what_is_applied_is_what_kubectl_renders(tools: Path):
    tool(tools, "kubectl", "kind: Namespace\n---\nkind: Pod\nspec: {}\n")
    assert [item["kind"] for item in stack_objects()] == ["Namespace", "Pod", "Pod", "Job", "Job"]
    assert [item["kind"] for item in stack_objects(Extent(workers=3))].count("Job") == 4
    assert (tools / "kubectl.asked").read_text().split()[0] == "kustomize"
    tool(tools, "kubectl", "error: no such folder", 1)
    with pytest.raises(StackError, match="kubectl kustomize"):
        stack_objects()


@pytest.mark.parametrize(
    ("images", "here", "expect"),
    [
        (Images(), False, ["prom/prometheus:v2", "redis:7.4.2"]),
        (Images(debian=True), False, []),
        (Images(replaced={"redis": "r.example/redis:7"}), False, ["prom/prometheus:v2", "r.example/redis:7"]),
        (Images(replaced={"redis": "r.example/redis:7"}), True, ["prom/prometheus:v2"]),
    ],
    ids=["official", "built here", "replaced", "replaced by one that is here"],
)
def test_which_images_nodes_would_pull(tools: Path, images: Images, here: bool, expect: list[str]):
    tool(tools, "docker", "x", 0 if here else 1)
    assert list(pulled(OFFICIAL, images)) == expect


def test_an_image_that_no_registry_has_is_refused_with_what_to_set(tools: Path):
    tool(tools, "docker", "no such manifest: docker.io/library/redis:7.4.2", 1)
    with pytest.raises(HostError, match=r"image redis:7.4.2 cannot be pulled .*no such manifest") as raised:
        require_images(["redis:7.4.2"], Images(), ())
    assert "('redis: REPOSITORY:TAG') and that file in RESILIENCE_IMAGES" in str(raised.value)
    with pytest.raises(HostError, match="the file in RESILIENCE_IMAGES names it"):
        require_images(["redis:7.4.2"], Images(replaced={"redis": "r.example/redis:7"}), ())


def test_images_that_can_be_had_are_not_pulled_by_looking(tools: Path):
    tool(tools, "docker", "{}")
    require_images(OFFICIAL, Images(), ())
    asked = (tools / "docker.asked").read_text().split()
    assert sorted(asked) == sorted(["manifest", "inspect", "prom/prometheus:v2", "manifest", "inspect", "redis:7.4.2"])


def test_what_a_node_has_is_asked_of_no_registry(tools: Path):
    require_images(OFFICIAL, Images(), set(OFFICIAL))
    assert not (tools / "docker.asked").exists()
