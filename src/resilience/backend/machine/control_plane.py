"""The cluster itself, asked from the machine under its nodes: what nodes take, where pods stand, what replaces them."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from resilience.agent.error import AgentError
from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.backend.kubernetes.manifests import COMPONENT, HARNESS, NAMESPACES
from resilience.backend.kubernetes.readiness import is_ready
from resilience.backend.kubernetes.split import WITNESS
from resilience.backend.machine.docker import KIND
from resilience.backend.tool import kubectl_output
from resilience.errors import HarnessError

CORDONED_BY = "harmonyflow.dev/cordoned-by"  # on a node: the injection that cordoned it, to be taken back
RESTARTED_BY = "harmonyflow.dev/restarted-by"  # in a template of pods: another value has all of them replaced
_MISSING, _CONFLICT, _TOO_MANY = 404, 409, 429
_EXEC_S = 10.0

Place = Mapping[str, Any]  # a member as an injection names it: pod, namespace, pod_uid, host …
Exec = Callable[[str, str, str, Sequence[str]], str]  # namespace, pod, container, command: what it prints


class Pod(NamedTuple):
    """A pod as it is now."""

    uid: str
    host: str  # "" while no node takes it
    address: str
    ready: bool
    created_at: datetime
    started_at: datetime | None  # its first container, if it runs

    @classmethod
    def from_object(cls, found: Object) -> Self:
        """What the API says of one."""
        containers = found.get("status", {}).get("containerStatuses") or [{}]
        started = containers[0].get("state", {}).get("running", {}).get("startedAt")
        return cls(
            uid=found["metadata"]["uid"],
            host=found["spec"].get("nodeName", ""),
            address=found.get("status", {}).get("podIP", ""),
            ready=is_ready(found),
            created_at=datetime.fromisoformat(found["metadata"]["creationTimestamp"]),
            started_at=datetime.fromisoformat(started) if started else None,
        )


class ControlPlane:
    """One cluster's API server; everything raises `AgentError`."""

    def __init__(
        self,
        opened: Callable[[], Api],
        run: Exec,
        sleep: Callable[[float], None] = time.sleep,
        *,
        stack: str = KIND,
    ) -> None:
        """Asks nothing: the API is opened when it is first needed. ``run`` raises `HarnessError`. ``stack``: what
        people ask for the cluster by.
        """
        self.heal = f"'resilience heal --stack {stack}'"
        self._opened = opened
        self._run = run
        self.sleep = sleep

    @cached_property
    def _api(self) -> Api:
        return self._asked(self._opened)

    def require_ours(self, namespace: str) -> None:
        """Raises `AgentError` for a namespace without the harness's label."""
        found = self._asked(lambda: self._api.get(f"/api/v1/namespaces/{namespace}"))
        if HARNESS not in found["metadata"].get("labels", {}):
            raise AgentError(f"namespace {namespace}: it has no label {HARNESS}, so nothing is done to its pods")

    def cordon(self, host: str, injection_id: str) -> None:
        """Has a node take no pod any more, and marks it with who wanted that."""
        change = {"metadata": {"annotations": {CORDONED_BY: injection_id}}, "spec": {"unschedulable": True}}
        self._asked(lambda: self._api.patch(_node(host), change))

    def uncordon(self, host: str, injection_id: str) -> None:
        """Takes that back; harmless for a node that this injection did not cordon, or that is gone."""
        if self.cordoned_by(host) == injection_id:
            self._asked(lambda: self._api.patch(_node(host), _TAKEN_BACK))

    def cordoned_by(self, host: str) -> str:
        """The injection that cordoned a node; "" if it takes pods, ``somebody else`` where nothing says who it was."""
        found = self.found(_node(host))
        return _cordoned_by(found) if found else ""

    def found(self, path: str) -> Object | None:
        """What stands at a path; None for nothing."""
        try:
            return self._api.find(path)
        except ApiError as error:
            raise AgentError(str(error)) from error

    def patch(self, path: str, change: Object) -> None:
        """Changes what stands at a path by what is given of it; may be done twice."""
        self._asked(lambda: self._api.patch(path, change))

    def create(self, path: str, item: Object) -> None:
        """Adds an object to a list; nothing if one of its name is there."""
        try:
            self._api.create(path, item)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise AgentError(str(error)) from error

    def remove(self, path: str) -> None:
        """Has an object deleted; harmless if it is gone."""
        self._asked(lambda: self._api.delete(path))

    def items(self, path: str) -> list[Object]:
        """The objects of a list."""
        return self._asked(lambda: self._api.items(path))

    def pod(self, place: Place) -> Pod | None:
        """The pod of this name that there is now, whichever it is."""
        found = self.found(_pod(place))
        return Pod.from_object(found) if found else None

    def evict(self, place: Place, *, dry: bool = False) -> str:
        """Has a pod evicted that is still the one named; why that is refused for now, or "".

        ``dry``: it is only asked whether its disruption budget would refuse it.
        """
        options: dict[str, Any] = {"preconditions": {"uid": place["pod_uid"]}, **({"dryRun": ["All"]} if dry else {})}
        metadata = {"name": place["pod"], "namespace": place["namespace"]}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": options}
        try:
            self._api.create(f"{_pod(place)}/eviction", eviction)
        except ApiError as error:
            if error.status in {_MISSING, _CONFLICT}:  # it is gone, or another has its name
                return ""
            if error.status == _TOO_MANY if dry else error.status in {0, _TOO_MANY}:
                return str(error)
            raise AgentError(str(error)) from error
        return ""

    def delete(self, place: Place, grace_s: int) -> None:
        """Has a pod deleted that is still the one named; nothing if it is gone, or another has its name."""
        options = {
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace_s,
            "preconditions": {"uid": place["pod_uid"]},
        }  # fmt: skip
        try:
            self._api.delete(_pod(place), options)
        except ApiError as error:
            if error.status != _CONFLICT:
                raise AgentError(str(error)) from error

    def restart(self, namespace: str, workload: str, injection_id: str) -> None:
        """Has a StatefulSet replace all its pods, one after the other; a second time for this injection nothing."""
        change = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_BY: injection_id}}}}}
        self._asked(lambda: self._api.patch(workload_path(namespace, workload), change))

    def rollout(self, namespace: str, workload: str) -> str:
        """How far a StatefulSet has come with that: ``complete``, or how many of its pods are replaced and ready."""
        found = self._asked(lambda: self._api.get(workload_path(namespace, workload)))
        status, wanted = found.get("status", {}), found["spec"].get("replicas", 1)
        seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
        updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
        whole = status.get("currentRevision") == status.get("updateRevision") and updated == ready == wanted
        return "complete" if seen and whole else f"{updated} of {wanted} replaced, {ready} ready"

    def said_by_another(self, component: str, places: Sequence[Place], argv: Sequence[str]) -> str:
        """What a command prints in a pod of the component that is ready and none of these."""
        (space,) = {place["namespace"] for place in places}
        names = self._ready(space, component) - {place["pod"] for place in places}
        if not names:
            raise AgentError(f"{component}: no other member is ready to be asked")
        return self.said({"namespace": space, "pod": min(names), "container": component}, argv)

    def said(self, place: Place, argv: Sequence[str]) -> str:
        """What a command prints in a pod."""
        return self._asked(lambda: self._run(place["namespace"], place["pod"], place["container"], argv))

    def witness(self) -> Place:
        """The pod on the observers' node that looks at faults from there."""
        names = self._ready(NAMESPACES[WITNESS], WITNESS)
        if not names:
            raise AgentError("the witness on the observers' node is not ready, so nobody can look")
        return {"namespace": NAMESPACES[WITNESS], "pod": min(names), "container": WITNESS}

    def _ready(self, space: str, component: str) -> set[str]:
        found = self._asked(lambda: self._api.items(f"/api/v1/namespaces/{space}/pods", f"{COMPONENT}={component}"))
        return {pod["metadata"]["name"] for pod in found if is_ready(pod)}

    def _asked[Answer](self, question: Callable[[], Answer]) -> Answer:
        try:
            return question()
        except HarnessError as error:
            raise AgentError(str(error)) from error


_TAKEN_BACK: Object = {"metadata": {"annotations": {CORDONED_BY: None}}, "spec": {"unschedulable": None}}


def cordons(api: Api) -> dict[str, str]:
    """The nodes that an injection has cordoned, and which one: from nothing but the cluster. Raises `ApiError`."""
    found = {node["metadata"]["name"]: _annotation(node) for node in api.items("/api/v1/nodes")}
    return {host: injection for host, injection in found.items() if injection}


def take_cordons_back(api: Api) -> dict[str, str]:
    """Has those nodes take pods again; which they were, and whose. Raises `ApiError`."""
    found = cordons(api)
    for host in found:
        api.patch(_node(host), _TAKEN_BACK)
    return found


def _cordoned_by(node: Object) -> str:
    if not node.get("spec", {}).get("unschedulable"):
        return ""
    return _annotation(node) or "somebody else"


def _annotation(node: Object) -> str:
    return str((node["metadata"].get("annotations") or {}).get(CORDONED_BY, ""))


def _node(host: str) -> str:
    return f"/api/v1/nodes/{host}"


def _pod(place: Place) -> str:
    return f"/api/v1/namespaces/{place['namespace']}/pods/{place['pod']}"


def workload_path(namespace: str, name: str) -> str:
    """Where the API has a StatefulSet."""
    return f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}"


def plane_of(stack: str, context: str, kubeconfig: Path) -> ControlPlane:
    """The control plane of one cluster, by its context in a kubeconfig of the harness's own, and no other."""

    def run(namespace: str, pod: str, container: str, argv: Sequence[str]) -> str:
        words = ["exec", "-n", namespace, pod, "-c", container, "--", *argv]
        return kubectl_output(kubeconfig, context, words, timeout_s=_EXEC_S)

    return ControlPlane(lambda: Api.of_context(kubeconfig, context), run, stack=stack)
