"""What is refused before anything is made on kind, and what is not."""

import socket
from pathlib import Path

import pytest

from resilience.backend.kubernetes.images import Images
from resilience.backend.kubernetes.needs import Needs
from resilience.backend.preflight import (
    GIB,
    Machine,
    lacks,
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
ENOUGH = Machine(memory_bytes=int(4.3 * GIB), processors=2, disk_free_bytes=15 * GIB)
OFFICIAL = ("redis:7.4.2", "prom/prometheus:v2", "harmonyflow/resilience:dev")


@pytest.mark.parametrize(
    ("of", "making", "words"),
    [
        (ENOUGH, True, []),
        (
            Machine(memory_bytes=2 * GIB, processors=2, disk_free_bytes=15 * GIB),
            True,
            ["Docker has 2.0 GiB of memory, 2.3 GiB too little for the 4.3 that are needed (requests are 2.0)"],
        ),
        (
            Machine(memory_bytes=5 * GIB, processors=1, disk_free_bytes=15 * GIB),
            True,
            ["one node is asked for 1.5 processors, Docker has 1"],
        ),
        (
            Machine(memory_bytes=5 * GIB, processors=2, disk_free_bytes=12 * GIB),
            True,
            ["Docker has 12.0 GiB of free disk, 3.0 GiB too little for the 15.0 that are needed (volumes are 10.0)"],
        ),
        (Machine(memory_bytes=5 * GIB, processors=2, disk_free_bytes=12 * GIB), False, []),
        (Machine(memory_bytes=5 * GIB, processors=2, disk_free_bytes=None), True, []),
    ],
    ids=["enough", "memory", "processors", "disk", "disk beside a cluster", "disk elsewhere"],
)
def test_how_much_is_missing_is_told(of: Machine, making: bool, words: list[str]):
    assert list(lacks(of, NEEDS, making=making)) == words


def test_all_that_is_missing_is_told_at_once():
    assert len(list(lacks(Machine(memory_bytes=0, processors=0, disk_free_bytes=0), NEEDS, making=False))) == 3


def info(**changes: object) -> Object:
    return {"MemTotal": 8 * GIB, "NCPU": 4, "Name": socket.gethostname(), "DockerRootDir": "/", **changes}


def test_a_disk_is_looked_at_where_docker_runs_on_this_machine():
    found = machine(info())
    assert (found.memory_bytes, found.processors) == (8 * GIB, 4)
    assert found.disk_free_bytes
    assert machine(info(Name="elsewhere")).disk_free_bytes is None
    assert machine(info(DockerRootDir="/no/such/folder")).disk_free_bytes is None


ASKING = [{"kind": "Pod", "spec": {"containers": [{"resources": {"requests": {"memory": "9Gi"}}}]}}]


@pytest.mark.parametrize(("objects", "refused"), [(ASKING, True), ([], False)])
def test_a_stack_that_does_not_fit_is_refused(tools: Path, objects: list[Object], refused: bool):
    tool(tools, "docker", '{"MemTotal": 8589934592, "NCPU": 2}')
    if refused:
        with pytest.raises(HostError, match=r"does not fit on this machine: Docker has 8.0 GiB of memory, 3.3 GiB too"):
            require_room(objects, making=True)
    else:
        require_room(objects, making=True)


def test_what_is_applied_is_what_kubectl_renders(tools: Path):
    tool(tools, "kubectl", "kind: Namespace\n---\nkind: Pod\nspec: {}\n")
    assert [item["kind"] for item in stack_objects()] == ["Namespace", "Pod", "Pod", "Job", "Job"]
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
