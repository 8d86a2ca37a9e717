"""What a run added to the cluster is ended, and what its members said is kept, whatever cannot be had of it."""

from pathlib import Path
from typing import Any

import pytest

from resilience.backend.kubernetes.agents import Agents
from resilience.backend.kubernetes.place import PlacePlatform
from resilience.backend.local.place import PROJECT_ROOT
from resilience.spec.read import read_stack
from tests.fakes import FakeAgents
from tests.unit.backend.kubernetes.cluster import NODES, RecordedApi, pod, pods_path

STACK = read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")
JOB = "/apis/batch/v1/namespaces/monitoring/jobs/loadgen"
LOG = f"{pods_path('redis')}/redis-cluster-0/log"
SPACES = ("redis", "harmonyflow", "monitoring")


def platform(api: RecordedApi, folder: Path) -> PlacePlatform:
    agents = Agents(api.api(), FakeAgents({}).run)
    made = PlacePlatform(api.api(), STACK, agents, log_dir=folder, say=lambda _name, _data: None)
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


def test_members_that_cannot_be_asked_for_keep_no_load_running(tmp_path: Path) -> None:
    api = recorded()
    made = platform(api, tmp_path)
    api.answers.pop(pods_path("redis"))
    with pytest.raises(ExceptionGroup):
        made.down()
    assert JOB not in api.answers
