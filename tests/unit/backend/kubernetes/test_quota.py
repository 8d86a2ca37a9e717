"""Which ResourceQuota leaves too little of what, and how much."""

from typing import Any

import pytest

from resilience.backend.kubernetes.quota import lacks_quota
from tests.unit.backend.kubernetes.cluster import Object

NODES = {"platform": 3}


def agent(**resources: Any) -> Object:
    """A DaemonSet with a pod on each of three nodes; of each 32 MiB and 50 m are requested, 256 MiB are the limit."""
    found = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}, **resources}
    spec = {"nodeSelector": {"harmonyflow.dev/role": "platform"}, "containers": [{"name": "agent", "resources": found}]}
    return {"kind": "DaemonSet", "spec": {"template": {"spec": spec}}}


def pod() -> Object:
    return {"kind": "Pod", "spec": agent()["spec"]["template"]["spec"]}


CLAIM: Object = {"kind": "PersistentVolumeClaim", "spec": {"resources": {"requests": {"storage": "4Gi"}}}}


def quota(used: dict[str, str] | None = None, hard: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata = {"name": "small", "namespace": "resilience"}
    return {"metadata": metadata, "spec": {"hard": hard or {}, **spec}, "status": {"used": used or {}}}


WORDS = "ResourceQuota resilience/small leaves"


@pytest.mark.parametrize(
    ("hard", "lack"),
    [
        ({"requests.memory": "96Mi", "requests.cpu": "150m", "limits.memory": "768Mi", "pods": "3"}, ""),
        (
            {"requests.memory": "64Mi"},
            "32 MiB of requests.memory too little for the 96 MiB that are needed (it has 64 MiB)",
        ),
        ({"memory": "95Mi"}, "1 MiB of memory too little for the 96 MiB that are needed (it has 95 MiB)"),
        ({"cpu": "0.1"}, "0.05 of cpu too little for the 0.15 that are needed (it has 0.1)"),
        ({"limits.memory": "0"}, "768 MiB of limits.memory too little for the 768 MiB that are needed (it has 0 MiB)"),
        ({"pods": "2"}, "1 of pods too little for the 3 that are needed (it has 2)"),
        ({"count/pods": "0"}, "3 of count/pods too little for the 3 that are needed (it has 0)"),
        (
            {"requests.storage": "1Gi"},
            "3072 MiB of requests.storage too little for the 4096 MiB that are needed (it has 1024 MiB)",
        ),
        ({"count/secrets": "0"}, ""),
    ],
    ids=lambda given: ", ".join(given) if isinstance(given, dict) else "",
)
def test_how_much_is_missing(hard: dict[str, str], lack: str):
    found = list(lacks_quota([quota(hard=hard)], [agent(), CLAIM], [], NODES))
    assert found == ([f"{WORDS} {lack}"] if lack else [])


def test_each_resource_and_each_quota_has_its_line():
    small = quota(hard={"requests.memory": "64Mi", "pods": "2"})
    assert len(list(lacks_quota([small, small], [agent()], [], NODES))) == 4
    assert list(lacks_quota([], [agent()], [], NODES)) == []


def test_what_others_have_taken_is_not_left_and_what_the_stack_has_is():
    used, hard = {"pods": "4"}, {"pods": "6"}
    ours = [pod(), pod()]
    assert list(lacks_quota([quota(used, hard)], [agent()], ours, NODES)) == []
    assert list(lacks_quota([quota({"pods": "6"}, hard)], [agent()], ours, NODES)) == [
        f"{WORDS} 1 of pods too little for the 3 that are needed (it has 6, of which others take 4)"
    ]
    assert list(lacks_quota([quota({"pods": "0"}, {"pods": "3"})], [agent()], ours, NODES)) == [], "told late"


def test_what_pods_have_to_say_and_do_not():
    (line,) = lacks_quota([quota(hard={"limits.cpu": "64"})], [agent()], [], NODES)
    assert line.endswith("counts limits.cpu, which agent names none of: no such pod is let in")
    assert list(lacks_quota([quota(hard={"limits.cpu": "64"})], [CLAIM], [], NODES)) == []


@pytest.mark.parametrize("scope", [{"scopes": ["BestEffort"]}, {"scopeSelector": {"matchExpressions": []}}])
def test_a_quota_for_some_pods_alone_is_admissions(scope: dict[str, Any]):
    assert list(lacks_quota([quota(hard={"pods": "0"}, **scope)], [agent()], [], NODES)) == []
