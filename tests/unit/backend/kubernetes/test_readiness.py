import pytest

from resilience.backend.kubernetes.readiness import is_ready, reasons, state_of
from tests.unit.backend.kubernetes.cluster import Object, RecordedApi, pod

EVENTS = "/api/v1/namespaces/redis/events"
LOG = "/api/v1/namespaces/redis/pods/redis-cluster-0/log"
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "redis:7.4.2"'}}
CRASH = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}


def warning(reason: str, message: str, at: str) -> Object:
    return {"reason": reason, "message": message, "lastTimestamp": at}


def test_an_image_that_cannot_be_pulled_is_named():
    events = {"items": [warning("Failed", "no such host\n registry", "2"), warning("Old", "older", "1")]}
    cluster = RecordedApi({EVENTS: events})
    late = pod("redis-cluster-0", ready=False, state=PULL)
    late["spec"]["containers"] = [{"name": "redis", "image": "redis:7.4.2"}]
    told = reasons(cluster.api(), [late])
    assert told == (
        'redis/redis-cluster-0: ImagePullBackOff: Back-off pulling image "redis:7.4.2"; image redis:7.4.2 cannot be'
        " pulled: name another in a file ('redis: REPOSITORY:TAG') and that file in RESILIENCE_IMAGES, "
        "event: Old: older, event: Failed: no such host registry"
    )
    assert LOG not in [path for _, path, _ in cluster.asked]  # nothing ran, so nothing was said


def test_an_image_that_somebody_named_is_named_otherwise_where_it_was():
    late = pod("redis-cluster-0", ready=False, state=PULL)
    late["spec"]["containers"] = [{"name": "redis", "image": "r.example:5000/own/redis:7"}]
    named = "image r.example:5000/own/redis:7 cannot be pulled: the file in RESILIENCE_IMAGES names it"
    assert named in state_of(late)
    assert "RESILIENCE_IMAGES" not in state_of(pod("redis-cluster-0", ready=False, state=CRASH))


def test_a_container_that_crashes_has_last_words():
    cluster = RecordedApi({EVENTS: {"items": []}, LOG: "one\n*** FATAL\tCONFIG FILE ERROR ***\n"})
    told = reasons(cluster.api(), [pod("redis-cluster-0", ready=False, state=CRASH, restarts=2)])
    assert told.endswith("log: one | *** FATAL CONFIG FILE ERROR ***")
    assert ("GET", LOG, {"container": "redis", "tailLines": "3", "previous": "true"}) in cluster.asked


def test_a_log_that_cannot_be_had_hides_no_reason():
    told = reasons(RecordedApi({}).api(), [pod("redis-cluster-0", ready=False, restarts=1)])
    assert told == "redis/redis-cluster-0: runs, restarted 1 times, and is not ready"


def test_ready_pods_need_no_reason_and_many_are_counted():
    api = RecordedApi({}).api()
    assert reasons(api, [pod("redis-cluster-0")]) == ""
    assert reasons(api, [pod(f"redis-cluster-{n}", ready=False) for n in range(6)]).endswith("; and 3 more")


def test_a_pod_that_no_node_takes():
    late = pod("redis-cluster-0", ready=False, host="")
    message = "0/5 nodes are available: 3 Insufficient memory."
    late["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}
    assert state_of(late) == f"no node takes it: {message}"


def test_a_pod_that_its_node_has_ended_says_for_want_of_what():
    message = "The node was low on resource: ephemeral-storage."
    evicted = pod("prometheus-0", ready=False, state={"terminated": {"exitCode": 137, "reason": "Error"}})
    evicted["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
    assert state_of(evicted) == f"ended by its node, Evicted: {message}"
    evicted["status"]["phase"] = "Running"
    assert state_of(evicted) == "ended with 137 (Error)"


@pytest.mark.parametrize(
    ("state", "words"),
    [({"terminated": {"exitCode": 1, "reason": "Error"}}, "ended with 1 (Error)"), ({"waiting": {}}, "waiting")],
)
def test_states(state: Object, words: str):
    assert state_of(pod("redis-cluster-0", ready=False, state=state)) == words


def test_a_job_that_succeeded_is_ready_and_a_pod_that_is_ended_is_not():
    done = pod("redis-cluster-init-x", ready=False)
    done["status"]["phase"] = "Succeeded"
    assert is_ready(done)
    leaving = pod("redis-cluster-0")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-25T04:00:00Z"
    assert not is_ready(leaving)
