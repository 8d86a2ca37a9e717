"""Why a pod is not ready, as a person would find it out: its state, its events, its last words."""

from collections.abc import Iterable, Iterator, Sequence

from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.backend.kubernetes.images import override
from resilience.backend.tool import one_line

SHOWN = 3  # reasons on one line
EVENTS, LINES = 2, 3  # the last ones of a pod
_WORDS = 200
_UNPULLED = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


def unready(pods: Sequence[Object]) -> list[Object]:
    """The pods that are not as they should be: not ready, or a job's that has not succeeded."""
    return [pod for pod in pods if not is_ready(pod)]


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready, or has done what it was for."""
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded":
        return True
    conditions = {item["type"]: item["status"] for item in status.get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def state_of(pod: Object) -> str:
    """What a pod is doing, in a few words."""
    status = pod.get("status", {})
    if ended := ended_by_node(pod):
        return ended
    for container in status.get("containerStatuses", ()):
        waiting, ended = container["state"].get("waiting"), container["state"].get("terminated")
        if waiting is not None:
            told = _joined(waiting.get("reason", "waiting"), waiting.get("message", ""))
            return f"{told}; {_unpulled(pod, container)}" if waiting.get("reason") in _UNPULLED else told
        if ended is not None:
            return f"ended with {ended.get('exitCode')} ({ended.get('reason', '')})"
        if not container.get("ready"):
            return f"runs, restarted {container.get('restartCount', 0)} times, and is not ready"
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return _joined("no node takes it", condition.get("message", ""))
    return str(status.get("phase", "unknown")).lower()


def ended_by_node(pod: Object) -> str:
    """Why its node has ended a pod, for want of disk or memory, say; "" if it has not."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed" or not status.get("reason"):
        return ""
    return _joined(f"ended by its node, {status['reason']}", status.get("message", ""))


def _unpulled(pod: Object, container: Object) -> str:
    """Which image could not be pulled, and what to do; its status calls an image what it likes."""
    images = {one["name"]: one["image"] for one in pod["spec"].get("containers", ())}
    image = str(images.get(container["name"], container.get("image", "")))
    return f"image {image} cannot be pulled: {override(image)}"


def reasons(api: Api, pods: Sequence[Object]) -> str:
    """One line on why these pods are not ready; "" if all are."""
    late = unready(pods)
    told = [_reason(api, pod) for pod in late[:SHOWN]]
    more = [f"and {len(late) - SHOWN} more"] if len(late) > SHOWN else []
    return "; ".join([*told, *more])


def _reason(api: Api, pod: Object) -> str:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    parts = [f"{namespace}/{name}: {state_of(pod)}"]
    parts += [f"event: {text}" for text in _warnings(api, namespace, name)]
    parts += [f"log: {text}" for text in _last_words(api, pod)]
    return ", ".join(parts)


def _warnings(api: Api, namespace: str, pod: str) -> Iterator[str]:
    """The last warnings about a pod."""
    yield from _told(api, namespace, f"involvedObject.name={pod},type=Warning")[-EVENTS:]


def refusals(api: Api, namespaces: Iterable[str]) -> str:
    """Why pods were not even made: what those that would make them were told last, e.g. of a quota; "" if nothing."""
    told = {name: _told(api, name, "reason=FailedCreate,type=Warning") for name in namespaces}
    return "; ".join(f"{name}: {events[-1]}" for name, events in told.items() if events)


def _told(api: Api, namespace: str, selector: str) -> list[str]:
    """A namespace's events, the newest last; none where nobody answers: the reason for asking is told anyway."""
    try:
        found = api.get(f"/api/v1/namespaces/{namespace}/events", fieldSelector=selector).get("items") or ()
    except ApiError:
        return []
    events = sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime")))
    return [_joined(event.get("reason", ""), event.get("message", "")) for event in events]


def _last_words(api: Api, pod: Object) -> Iterator[str]:
    """The last lines of the log of a container that did not start well; of the one before, if it was restarted."""
    containers = pod.get("status", {}).get("containerStatuses", ())
    for container in containers[:1]:
        if container.get("ready") or ("waiting" in container["state"] and not container.get("restartCount")):
            return
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/log"
        before = "true" if "running" not in container["state"] and container.get("restartCount") else "false"
        try:
            said = api.text(path, container=container["name"], tailLines=str(LINES), previous=before).strip()
        except ApiError:
            return
        if said:
            yield " | ".join(one_line(line, _WORDS) for line in said.splitlines())


def _joined(first: str, second: str) -> str:
    text = f"{first}: {second}" if second else first
    return one_line(text, _WORDS)
