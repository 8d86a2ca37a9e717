"""Commands in pods, called from within the cluster by the API's websocket; outside ``kubectl`` does that."""

import json
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from resilience.backend.kubernetes.agents import Run, Trips
from resilience.backend.tool import last_error, one_line
from resilience.errors import StackError
from resilience.spec.clock import TRIPS, Trip

_TRIP_WITHIN_S = 5.0  # the first waits for the interpreter
_SHOWN = 200  # characters of what the client says
_GRACE_S = 5.0  # for a command to say that its own time is over


def caller_of_pod() -> Run:
    """What runs commands in pods by the service account of this process's pod; it raises `StackError`."""
    api_of_pod = _api_of_pod()

    def run(namespace: str, pod: str, argv: tuple[str, ...], text: str, timeout_s: float) -> str:
        where = (namespace, pod)
        return _told(where, lambda: _called(api_of_pod(), where, argv, text, timeout_s), timeout_s)

    return run


def trips_from_pod() -> Trips:
    """What asks the clock of a command in a pod, likewise: as many times as it takes, by one connection."""
    api_of_pod = _api_of_pod()

    def trips(namespace: str, pod: str, argv: tuple[str, ...], timeout_s: float) -> tuple[str, tuple[Trip, ...]]:
        where = (namespace, pod)
        return _told(where, lambda: _trips(_opened(api_of_pod(), where, argv, timeout_s)), timeout_s)

    return trips


def _api_of_pod() -> Callable[[], Any]:
    from kubernetes import client, config  # a second to import, which no local run has to wait for

    configuration = client.Configuration()
    config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    _ = client.CoreV1Api  # imported by its first use, half a second that no call into a loaded platform may cost
    return lambda: client.ApiClient(configuration)


def _told[T](where: tuple[str, str], call: Callable[[], T], timeout_s: float) -> T:
    from kubernetes.client import ApiException
    from websocket import WebSocketException

    try:
        return bounded(call, timeout_s + _GRACE_S)
    except (ApiException, WebSocketException, OSError, ValueError, TypeError, KeyError) as error:
        raise StackError(f"{'/'.join(where)}: cannot be called: {one_line(error, _SHOWN)}") from error


def bounded[T](call: Callable[[], T], timeout_s: float) -> T:
    """What a call returns or raises. Raises `TimeoutError` if it takes longer, and leaves it to itself then: the client
    opens its connections without a time-out.
    """
    ended = SimpleQueue[tuple[list[T], Exception | None]]()

    def done() -> None:
        try:
            ended.put(([call()], None))
        except Exception as error:  # noqa: BLE001  it is raised again, by whoever waits
            ended.put(([], error))

    Thread(target=done, name="call", daemon=True).start()
    try:
        answers, error = ended.get(timeout=timeout_s)
    except Empty:
        raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    if error is not None:
        raise error
    return answers[0]


def _opened(api: Any, where: tuple[str, str], argv: tuple[str, ...], timeout_s: float) -> Any:
    from kubernetes import client
    from kubernetes.stream import stream

    namespace, pod = where
    return stream(
        client.CoreV1Api(api).connect_get_namespaced_pod_exec, pod, namespace, command=list(argv), stdin=True,
        stdout=True, stderr=True, tty=False, _preload_content=False, _request_timeout=timeout_s,
    )  # fmt: skip


def _trips(socket: Any) -> tuple[str, tuple[Trip, ...]]:
    """The other kernel's boot id, and the round trips to its clock. Raises `ValueError` if they break off."""
    found, boot_ids = [], set()
    try:
        for _ in range(TRIPS):
            sent_ns = time.monotonic_ns()
            socket.write_stdin("?\n")
            told = json.loads(socket.readline_stdout(timeout=_TRIP_WITHIN_S))
            found.append(Trip(sent_ns, int(told["now_ns"]), time.monotonic_ns()))
            boot_ids.add(str(told["boot_id"]))
        socket.write_stdin("\n")
    finally:
        socket.close()
    (boot_id,) = boot_ids
    return boot_id, tuple(found)


def _called(api: Any, where: tuple[str, str], argv: tuple[str, ...], text: str, timeout_s: float) -> str:
    namespace, pod = where
    deadline = time.monotonic() + timeout_s
    socket = _opened(api, where, argv, timeout_s)
    try:
        socket.write_stdin(text)
        while socket.is_open() and (left_s := deadline - time.monotonic()) > 0:
            socket.update(timeout=left_s)
        if socket.is_open():
            raise StackError(f"{namespace}/{pod}: '{' '.join(argv[:3])}' did not end within {timeout_s:g} s")
        said: str = socket.read_stdout(timeout=0)
        if socket.returncode != 0:  # a TypeError where the line broke before the server could say one
            raise StackError(f"{namespace}/{pod}: '{' '.join(argv[:3])}': {last_error(socket.read_stderr(timeout=0))}")
    finally:
        socket.close()
    return said
