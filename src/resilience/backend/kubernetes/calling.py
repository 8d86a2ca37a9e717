"""Commands in pods, called from within the cluster by the API's websocket; outside ``kubectl`` does that."""

import time
from typing import Any

from resilience.backend.kubernetes.agents import Run
from resilience.backend.tool import last_error
from resilience.errors import StackError


def caller_of_pod() -> Run:
    """What runs commands in pods by the service account of this process's pod; it raises `StackError`."""
    from kubernetes import client, config  # a second to import, which no local run has to wait for

    configuration = client.Configuration()
    config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]

    def run(namespace: str, pod: str, argv: tuple[str, ...], text: str, timeout_s: float) -> str:
        from kubernetes.client import ApiException
        from websocket import WebSocketException

        try:
            return _called(client.ApiClient(configuration), (namespace, pod), argv, text, timeout_s)
        except (ApiException, WebSocketException, OSError, ValueError, TypeError, KeyError) as error:
            raise StackError(f"{namespace}/{pod}: cannot be called: {' '.join(str(error).split())[:200]}") from error

    return run


def _called(api: Any, where: tuple[str, str], argv: tuple[str, ...], text: str, timeout_s: float) -> str:
    from kubernetes import client
    from kubernetes.stream import stream

    namespace, pod = where
    deadline = time.monotonic() + timeout_s
    socket = stream(
        client.CoreV1Api(api).connect_get_namespaced_pod_exec, pod, namespace, command=list(argv), stdin=True,
        stdout=True, stderr=True, tty=False, _preload_content=False, _request_timeout=timeout_s,
    )  # fmt: skip
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
