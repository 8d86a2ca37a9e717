"""What a run added to the cluster is ended, and what its members said is kept, whatever cannot be had of it."""

import errno
from pathlib import Path
from typing import Any

import pytest

from resilience.backend.kubernetes import place
from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.manifests import MEMBER
from resilience.backend.kubernetes.neighbour import Neighbour
from resilience.backend.kubernetes.place import PlacePlatform
from resilience.backend.kubernetes.workload import IMAGE, POD, POD_UID
from resilience.backend.local.place import PROJECT_ROOT
from resilience.spec.load import numbered
from resilience.spec.read import read_stack
from resilience.spec.stack import Stack
from tests.fakes import FakeAgents
from tests.unit.backend.kubernetes.cluster import NODES, RecordedApi, pod, pods_path

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
JOB = "/apis/batch/v1/namespaces/monitoring/jobs/loadgen"
LOG = f"{pods_path('redis')}/redis-cluster-0/log"
SPACES = ("redis", "harmonyflow", "monitoring")


def platform(api: RecordedApi, folder: Path, stack: Stack = STACK) -> PlacePlatform:
    agents = Agents(api.api(), FakeAgents({}).run)
    made = PlacePlatform(api.api(), stack, agents, log_dir=folder, say=lambda _name, _data: None)
    made._started.append("loadgen")
    return made


def recorded(log: str = "", restarts: int = 0) -> RecordedApi:
    spaces: dict[str, Any] = {pods_path(space): {"items": []} for space in SPACES}
    spaces[pods_path("redis")] = {"items": [pod("redis-cluster-0", restarts=restarts)]}
    logs = {LOG: log} if log else {}
    return RecordedApi({"/api/v1/nodes": NODES, JOB: {}, **spaces, **logs})


def test_logs_are_kept_and_the_load_is_ended(tmp_path: Path) -> None:
    api = recorded("said\n")
    platform(api, tmp_path).down()
    assert (tmp_path / "redis-cluster-0" / "server.log").read_text() == "said\n"
    assert JOB not in api.answers


def test_the_log_of_a_server_that_was_restarted_begins_with_what_the_one_before_said(tmp_path: Path) -> None:
    api = recorded("said\n", restarts=1)
    platform(api, tmp_path).down()
    assert (tmp_path / "redis-cluster-0" / "server.log").read_text() == "said\nsaid\n"
    assert [query.get("previous") for _method, path, query in api.asked if path == LOG] == ["true", None]


def test_a_log_that_cannot_be_had_keeps_no_load_running(tmp_path: Path) -> None:
    api = recorded()
    with pytest.raises(ExceptionGroup) as raised:
        platform(api, tmp_path).down()
    assert [str(error) for error in raised.value.exceptions] == [f"GET {LOG}: 404 not found"]
    assert JOB not in api.answers


def test_half_a_log_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads it would take it for all that the server said."""

    def fill_the_disk(path: Path, text: str) -> None:
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill_the_disk)
    api = recorded("said much\nand this\n")
    with pytest.raises(ExceptionGroup, match="could not be ended cleanly"):
        platform(api, tmp_path).down()
    assert not (tmp_path / "redis-cluster-0" / "server.log").exists()
    assert JOB not in api.answers


def test_members_that_cannot_be_asked_for_keep_no_load_running(tmp_path: Path) -> None:
    api = recorded()
    made = platform(api, tmp_path)
    api.answers.pop(pods_path("redis"))
    with pytest.raises(ExceptionGroup):
        made.down()
    assert JOB not in api.answers


@pytest.mark.parametrize(("workers", "asked"), [(1, "500m"), (2, "300m")])
def test_a_process_of_the_load_is_a_job_of_its_own_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int, asked: str
) -> None:
    api, names = recorded("said\n"), [numbered("loadgen", index) for index in range(workers)]
    made = platform(api, tmp_path, STACK.with_workers(workers))
    monkeypatch.setattr(place, "BESIDE_DIR", str(tmp_path))
    for variable in (POD, POD_UID, IMAGE):
        monkeypatch.setenv(variable, "x")
    for name in names:
        monkeypatch.setattr(Neighbour, "wait_started", lambda *_: None)
        made.run_beside(name, ["true"], tmp_path / "log")
    jobs = [api.answers[f"{JOB.rpartition('/')[0]}/{name}"] for name in names]
    assert [job["spec"]["template"]["metadata"]["labels"][MEMBER] for job in jobs] == names
    containers = [job["spec"]["template"]["spec"]["containers"][0] for job in jobs]
    assert {container["resources"]["requests"]["cpu"] for container in containers} == {asked}
    made.down()
    assert not [path for path in api.answers if path.startswith(JOB)]
