"""What a run adds to a cluster is what Kubernetes accepts and what a reviewer asks for."""

from typing import Any

import pytest

from resilience.backend.kubernetes.workload import IMAGE, POD, POD_UID, load_job, order, run_objects, runner
from resilience.backend.local.place import PROJECT_ROOT
from tests.unit.backend.kubernetes.kustomization import rendered
from tests.unit.backend.kubernetes.test_manifests import SUPPORTED, complaint, faults_of

OWN = {IMAGE: "harmonyflow/resilience:abc123", POD: "runner", POD_UID: "7f"}
JOB = load_job("loadgen", "loadgen", ["locust", "--headless"], "/runs/run/load/locust.log", OWN)
RUNNER = runner("harmonyflow/resilience:abc123")


def spec_of(item: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = item["spec"]["template"]["spec"] if item["kind"] == "Job" else item["spec"]
    return spec


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("item", [order({"spec.json": "{}"}), RUNNER, JOB], ids=["order", "runner", "load"])
def test_kubernetes_accepts_it(item: dict[str, Any], version: str) -> None:
    assert complaint(item, version) == ""


@pytest.mark.parametrize("item", [RUNNER, JOB], ids=["runner", "load"])
def test_a_reviewer_has_nothing_to_say(item: dict[str, Any]) -> None:
    as_job = item if item["kind"] == "Job" else {**item, "kind": "Job", "spec": {"template": item}}
    assert list(faults_of(as_job)) == []


@pytest.mark.parametrize("item", [RUNNER, JOB], ids=["runner", "load"])
def test_all_stand_on_the_observer_node_and_share_one_volume(item: dict[str, Any]) -> None:
    spec = spec_of(item)
    assert spec["nodeSelector"] == {"harmonyflow.dev/role": "observer"}
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["run"] == "/runs"
    assert {volume["name"] for volume in spec["volumes"]} >= set(mounts)


def test_the_load_ends_with_its_runner_and_is_never_started_again() -> None:
    (owner,) = JOB["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "runner", "7f")
    assert JOB["spec"]["backoffLimit"] == 0
    assert spec_of(JOB)["restartPolicy"] == "Never"


def test_the_load_gets_no_token_and_the_runner_gets_its_own() -> None:
    assert spec_of(JOB)["automountServiceAccountToken"] is False
    assert (RUNNER["spec"]["serviceAccountName"], RUNNER["spec"]["automountServiceAccountToken"]) == ("runner", True)


def test_its_name_in_the_cluster_is_the_one_that_prometheus_scrapes() -> None:
    objects = rendered(PROJECT_ROOT / "stacks" / "kubernetes" / "base")
    service = next(item for item in objects if item["kind"] == "Service" and item["metadata"]["name"] == "load")
    assert service["spec"]["selector"].items() <= JOB["spec"]["template"]["metadata"]["labels"].items()
    assert (spec_of(JOB)["hostname"], spec_of(JOB)["subdomain"]) == ("loadgen", "load")


def test_each_process_of_the_load_is_a_job_with_a_name_of_its_own() -> None:
    _runner, *jobs = run_objects("harmonyflow/resilience:abc123", 3)
    names = ["loadgen", "loadgen-1", "loadgen-2", "direct-client"]
    assert [(job["kind"], job["metadata"]["name"], spec_of(job)["hostname"]) for job in jobs] == [
        ("Job", name, name) for name in names
    ]
    components = [job["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] for job in jobs]
    assert components == ["loadgen", "loadgen", "loadgen", "direct-client"]
    assert len(run_objects("harmonyflow/resilience:abc123")) == 3


def test_a_client_of_a_tier_is_a_job_that_asks_for_less() -> None:
    *_others, job = run_objects("harmonyflow/resilience:abc123", 1, ["rabbitmq-client"])
    assert job["metadata"]["name"] == spec_of(job)["hostname"] == "rabbitmq-client"
    assert spec_of(job)["containers"][0]["resources"]["requests"]["cpu"] == "200m"


@pytest.mark.parametrize("item", [RUNNER, JOB], ids=["runner", "load"])
def test_secrets_are_files_by_their_names_and_those_of_tiers_may_be_missing(item: dict[str, Any]) -> None:
    (volume,) = [volume for volume in spec_of(item)["volumes"] if volume["name"] == "password"]
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    assert {source["name"]: source["optional"] for source in sources} == {
        "redis-password": False, "postgresql-password": True, "rabbitmq-password": True
    }  # fmt: skip
    assert all(source["items"] == [{"key": "password", "path": source["name"]}] for source in sources)
