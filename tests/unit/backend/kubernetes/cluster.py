"""A cluster's API as recorded answers: what stands at which path, and what goes wrong first."""

import json
from collections.abc import Mapping
from typing import Any

from resilience.backend.kubernetes.api import Api, ApiError

Object = dict[str, Any]


class RecordedApi:
    """Answers from a table; ``away`` calls fail before the first answer. Counts and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Any], away: int = 0, status: int = 0) -> None:
        self.answers = dict(answers)
        self.away = away
        self.status = status
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.slept: list[float] = []

    def call(self, method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        self.asked.append((method, path, dict(query)))
        if self.away:
            self.away -= 1
            raise ApiError(f"{method} {path}: away", self.status)
        if method == "POST":
            self.answers[f"{path}/{body['metadata']['name']}"] = body
            return json.dumps(body).encode()
        if path not in self.answers:
            raise ApiError(f"{method} {path}: 404 not found", 404)
        if method == "DELETE":
            self.answers.pop(path)
            return b"{}"
        answer = selected(self.answers[path], query.get("labelSelector", ""))
        return answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()

    def api(self) -> Api:
        return Api(self.call, "a recorded cluster", sleep=self.slept.append, patience_s=3.0)


def selected(answer: Any, selector: str) -> Any:
    """A list without the items that a selector (``label=value``, or ``label``) leaves out."""
    if not selector or not isinstance(answer, dict) or "items" not in answer:
        return answer
    label, valued, value = selector.partition("=")
    found = [item for item in answer["items"] if label in item["metadata"].get("labels", {})]
    return {**answer, "items": [item for item in found if not valued or item["metadata"]["labels"][label] == value]}


def node(name: str, logical: str = "", labels: Mapping[str, str] | None = None) -> Object:
    known = {"harmonyflow.dev/node": logical} if logical else {}
    return {"metadata": {"name": name, "labels": {**known, **(labels or {})}}}


HOSTS = ("hf-worker", "hf-worker2", "hf-worker3")
PLATFORM = {"harmonyflow.dev/role": "platform"}
NODES = {
    "items": [
        node("hf-control-plane", labels={"harmonyflow.dev/cluster": "resilience"}),
        *(node(name, f"node-{number}", PLATFORM) for number, name in enumerate(HOSTS, start=1)),
        node("hf-worker4", "observer"),
    ]
}


def pod(
    name: str,
    *,
    component: str = "redis",
    namespace: str = "redis",
    host: str = "hf-worker",
    ready: bool = True,
    state: Object | None = None,
    restarts: int = 0,
    ip: str = "10.244.1.5",
) -> Object:
    """A pod as the API shows it, without what nobody reads."""
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": {"app.kubernetes.io/part-of": "harmonyflow", "app.kubernetes.io/component": component},
        },
        "spec": {"nodeName": host} if host else {},
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [
                {
                    "name": component,
                    "ready": ready,
                    "restartCount": restarts,
                    "containerID": f"containerd://{restarts}123456789abcdef",
                    "state": {"running": {}} if state is None else state,
                }
            ],
        },
    }


def pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"
