"""A run in a cluster as it is followed from outside: its pod started, its words shown, its record taken out."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from resilience.backend.kubernetes.api import Api, ApiError, Object
from resilience.backend.kubernetes.cluster import Cluster
from resilience.backend.kubernetes.readiness import ended_by_node, reasons
from resilience.backend.kubernetes.records import Fetching
from resilience.backend.kubernetes.workload import (
    LOAD,
    MACHINE,
    NAMESPACE,
    ORDER,
    RUN_DIR,
    RUNNER,
    mailbox,
    order,
    runner,
)
from resilience.errors import StackError
from resilience.spec.stack import GENERATORS, Stack

STARTED_WITHIN_S = 90.0
LOADS_GONE_WITHIN_S = 20.0
GONE = 128 + 9  # the exit code of a runner that somebody else ended before it could say one
AWAY_S_MAX = 300.0
_LOOK_EVERY_S = 1.0
_MISSING = 404
_CALL_S = 60.0
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
_ORDERS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


class Staging:
    """One run in a cluster."""

    def __init__(self, cluster: Cluster, api: Api, stack: Stack, show: Callable[[str], None]) -> None:
        """``show`` is given each line that the runner prints."""
        self._cluster = cluster
        self._api = api
        self._stack = stack
        self._show = show
        self._shown = 0  # lines
        self._uid = ""  # the runner's pod's, once it is made
        self._lost = ""

    def start(self, image: str, files: Mapping[str, str]) -> None:
        """Starts the runner on a run of which these files are known. Raises `StackError`."""
        self._api.create(_ORDERS, order(files))
        self._api.create(_ORDERS, mailbox())
        self._uid = _uid_of(self._api.create(_PODS, runner(image)))
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not _container(pod := self._api.get(f"{_PODS}/{RUNNER}")):
            if time.monotonic() > deadline:
                raise StackError(f"the runner's pod did not start: {reasons(self._api, [pod])}")
            time.sleep(_LOOK_EVERY_S)

    def follow(self) -> int:
        """Shows what the runner says until it has ended; its exit code.

        An API server that is away is waited for. Raises `StackError` after `AWAY_S_MAX`.
        """
        seen = time.monotonic()
        while time.monotonic() - seen < AWAY_S_MAX:
            try:
                pod = self._api.get(f"{_PODS}/{RUNNER}")
                seen = time.monotonic()
                if self._is_anothers(pod):
                    return GONE
                code, self._lost = ended_code(pod), lost_by(pod)
                self._show_more(ended=code is not None)
            except ApiError as error:
                code = GONE if error.status == _MISSING else None
                self._lost = "somebody has deleted the runner's pod" if code else ""
            if code is not None:
                return code
            time.sleep(_LOOK_EVERY_S)
        raise StackError(f"the API server has been away for {AWAY_S_MAX:.0f} s, and with it the run")

    @property
    def lost(self) -> str:
        """Who has ended the runner, and why, if it was not itself; "" otherwise."""
        return self._lost

    def _show_more(self, *, ended: bool) -> None:
        try:
            said = self._api.text(f"{_PODS}/{RUNNER}/log", container=RUNNER)
        except ApiError:  # it is only shown; what counts is recorded
            return
        lines = said.splitlines() if ended else said.splitlines()[: said.count("\n")]
        for line in lines[self._shown :]:
            self._show(line)
        self._shown = len(lines)

    def interrupt(self, number: int) -> None:
        """Hands a signal on to the runner, unless it has ended; an API server that is away is waited for.

        Raises `StackError` after `AWAY_S_MAX`.
        """
        send = f"import os; os.kill(1, {int(number)})"
        began = time.monotonic()
        while not self._has_ended():
            try:
                self._cluster.kubectl("exec", "-n", NAMESPACE, RUNNER, "-c", RUNNER, "--", "python3", "-c", send)
            except StackError:
                if time.monotonic() - began > AWAY_S_MAX:
                    raise
            else:
                return
            time.sleep(_LOOK_EVERY_S)

    def _has_ended(self) -> bool:
        """Whether the runner is known to have ended, or to be gone."""
        try:
            pod = self._api.get(f"{_PODS}/{RUNNER}")
        except ApiError as error:
            return error.status == _MISSING
        return self._is_anothers(pod) or ended_code(pod) is not None

    def _is_anothers(self, pod: Object) -> bool:
        """Whether it is the pod of another run, that has taken the cluster from this one."""
        return bool(self._uid) and _uid_of(pod) != self._uid

    def _require_own(self) -> None:
        """Raises `StackError` if another run's pod stands in this one's place: nothing there is to be touched."""
        pod = self._api.find(f"{_PODS}/{RUNNER}")
        if pod and self._is_anothers(pod):
            raise StackError("the runner's pod is that of another run, which has taken the cluster from this one")

    def end_loads(self) -> None:
        """Ends the load of a runner that could not do so any more. Raises `StackError` if some of it still writes."""
        self._require_own()
        loads = [member.name for member in self._stack.members if member.component in GENERATORS]
        for name in loads:
            self._api.delete(f"{_JOBS}/{name}")
        deadline = time.monotonic() + LOADS_GONE_WITHIN_S
        while running := [pod["metadata"]["name"] for pod in self._api.items(_PODS, f"{LOAD}=true") if _may_write(pod)]:
            if time.monotonic() > deadline:
                told = f"the load still runs {LOADS_GONE_WITHIN_S:g} s after its end ({', '.join(running)})"
                raise StackError(f"{told}: what it writes from here on is missing in the record")
            time.sleep(_LOOK_EVERY_S)

    def fetch(self, directory: Path) -> list[str]:
        """Takes the record out; returns what did not come whole, a reason for each."""
        self._require_own()
        return Fetching(lambda argv: self._cluster.run(NAMESPACE, RUNNER, argv, "", _CALL_S)).fetch(RUN_DIR, directory)

    def end(self) -> None:
        """Takes away what the run has added to the cluster. Raises `StackError`."""
        self._require_own()
        self._api.delete(f"{_PODS}/{RUNNER}")
        self._api.delete(f"{_ORDERS}/{ORDER}")
        self._api.delete(f"{_ORDERS}/{MACHINE}")


def ended_code(pod: Object) -> int | None:
    """The exit code of the runner, or None while it runs."""
    if "terminated" in (state := _container(pod)):
        return int(state["terminated"].get("exitCode", GONE))
    return GONE if pod.get("status", {}).get("phase") in {"Failed", "Succeeded"} else None


def _uid_of(pod: Object) -> str:
    return str(pod.get("metadata", {}).get("uid", ""))


def lost_by(pod: Object) -> str:
    """Who has ended the runner, and why; "" while it runs, and for one that came to an end of its own."""
    if ended := ended_by_node(pod):
        return f"the runner's pod was {ended}"
    if _container(pod).get("terminated", {}).get("reason") == "OOMKilled":
        return "the runner was killed: it took more memory than its pod may have (OOMKilled)"
    return ""


def _may_write(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}


def _container(pod: Object) -> Object:
    """The state of the container that plays; empty before it was started."""
    for container in pod.get("status", {}).get("containerStatuses", ()):
        state: Object = container.get("state", {})
        if container["name"] == RUNNER and "waiting" not in state:
            return state
    return {}
