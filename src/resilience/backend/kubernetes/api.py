"""The Kubernetes API as the harness uses it: JSON in, JSON out, a time-out on every call, errors in one line.

The cluster is always named: by its context in a kubeconfig of the harness's own, or as the one that this process's pod
runs in. Nothing is ever taken from "the current context".
"""

import json
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from resilience.backend.tool import one_line
from resilience.errors import StackError

TIMEOUT_S = 10.0  # of one call
PATIENCE_S = 30.0  # how long an API server may be away before a question fails
_AGAIN_AFTER_S = 1.0
_ERRORS, _MISSING = 400, 404
_AWAY = frozenset({429, 500, 502, 503, 504})  # what a server says that is there, and cannot answer yet

Object = dict[str, Any]
Call = Callable[[str, str, Mapping[str, str], Any], bytes]  # method, path, query, body: the answer's body


class ApiError(StackError):
    """An answer that is an error; ``status`` 0: there was none."""

    def __init__(self, message: str, status: int) -> None:
        """``message``: one line."""
        super().__init__(message)
        self.status = status


class Api:
    """One cluster's API."""

    def __init__(
        self, call: Call, name: str, *, sleep: Callable[[float], None] = time.sleep, patience_s: float = PATIENCE_S
    ) -> None:
        """``call`` makes one call and raises `ApiError`; ``name`` is the cluster's, for messages."""
        self.name = name
        self._call = call
        self._sleep = sleep
        self._patience_s = patience_s

    @classmethod
    def of_context(cls, kubeconfig: Path, context: str, *, patience_s: float = PATIENCE_S) -> Self:
        """The cluster of a context. Raises `StackError` where the file does not have it."""
        from kubernetes import client, config  # a second to import, which no local run has to wait for

        settings = client.Configuration()
        try:
            config.load_kube_config(str(kubeconfig), context, settings, persist_config=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever it is that stands in the file: the client tells it in many ways
            raise StackError(f"{kubeconfig}: context {context}: {one_line(error)}") from error
        return cls(_calls(settings), context, patience_s=patience_s)

    @classmethod
    def of_pod(cls) -> Self:
        """The cluster that this process's pod runs in. Raises `StackError` outside of one."""
        from kubernetes import client, config

        settings = client.Configuration()
        try:
            config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise StackError(f"this process runs in no pod with a service account: {error}") from error
        return cls(_calls(settings), "this cluster")

    def get(self, path: str, **query: str) -> Object:
        """What stands at a path; waits for a server that is away. Raises `ApiError`."""
        return _decoded(self._patient("GET", path, query, None))

    def find(self, path: str) -> Object | None:
        """The same, None where nothing stands. Raises `ApiError`."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == _MISSING:
                return None
            raise

    def items(self, path: str, selector: str = "") -> list[Object]:
        """The objects of a list. Raises `ApiError`."""
        query = {"labelSelector": selector} if selector else {}
        found: list[Object] = self.get(path, **query).get("items") or []
        return found

    def text(self, path: str, **query: str) -> str:
        """What stands at a path that is no JSON, such as a log; waits likewise. Raises `ApiError`."""
        return self._patient("GET", path, query, None).decode(errors="replace")

    def create(self, path: str, item: Object) -> Object:
        """Adds an object to a list. Raises `ApiError`; 409: it is there."""
        return _decoded(self._call("POST", path, {}, item))

    def replace(self, path: str, item: Object) -> Object:
        """Puts an object in the place of the one with its version. Raises `ApiError`; 409: somebody was quicker."""
        return _decoded(self._call("PUT", path, {}, item))

    def patch(self, path: str, change: Object) -> Object:
        """Changes an object by what is given of it (RFC 7396); may be done twice. Raises `ApiError`."""
        return _decoded(self._patient("PATCH", path, {}, change))

    def delete(self, path: str, options: Object | None = None) -> None:
        """Has an object deleted, with all that it owns; harmless if it is gone. Raises `ApiError`.

        ``options``: fields of a `DeleteOptions`, e.g. of whom alone (``preconditions``).
        """
        try:
            self._patient("DELETE", path, {"propagationPolicy": "Background"}, options)
        except ApiError as error:
            if error.status != _MISSING:
                raise

    def _patient(self, method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        """Asks again while the server is away; only for what changes nothing, or nothing more the second time."""
        waited_s = 0.0  # a question that hangs takes of the patience, too
        while True:
            began = time.monotonic()
            try:
                return self._call(method, path, query, body)
            except ApiError as error:
                waited_s += time.monotonic() - began
                if (error.status and error.status not in _AWAY) or waited_s >= self._patience_s:
                    raise
            self._sleep(_AGAIN_AFTER_S)
            waited_s += _AGAIN_AFTER_S


def _decoded(answer: bytes) -> Object:
    try:
        found: Object = json.loads(answer)
    except ValueError as error:
        raise ApiError(f"the API server's answer is no JSON: {answer[:40]!r}", 0) from error
    return found


def _calls(settings: Any, timeout_s: float = TIMEOUT_S) -> Call:
    """Calls by the official client's transport, without its models."""
    from kubernetes.client import ApiClient, ApiException
    from urllib3.exceptions import HTTPError

    settings.retries = False  # or a question that hangs would be asked four times, each with the whole time-out
    client: Any = ApiClient(settings)
    _keep_certificates(client.rest_client.pool_manager.connection_pool_kw, settings)

    def call(method: str, path: str, query: Mapping[str, str], body: Any) -> bytes:
        sent = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": sent}
        try:
            request = client.param_serialize(
                method, path, query_params=list(query.items()), header_params=headers, body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            answer = client.call_api(*request, _request_timeout=timeout_s)
            data: bytes = answer.read()
        except (ApiException, HTTPError, OSError) as error:
            raise ApiError(f"{method} {path}: the API server does not answer ({one_line(error)})", 0) from error
        if answer.status >= _ERRORS:
            raise ApiError(f"{method} {path}: {answer.status} {said(data, answer.reason)}", answer.status)
        return data

    return call


def _keep_certificates(pool: dict[str, Any], settings: Any) -> None:
    """Has the transport read its certificates now instead of with each connection.

    The client keeps a kubeconfig's in files that go with the process which loaded it, and the daemon of an injection,
    which is forked off that process, has to reach the server for as long as it lives.
    """
    if not settings.host.startswith("https:"):
        return
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    for name in ("ca_certs", "cert_file", "key_file"):
        pool.pop(name, None)
    pool["ssl_context"] = context


def said(body: Any, reason: Any) -> str:
    """What an error's body says, on one line."""
    try:
        text = str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        text = str(reason or "no message")
    return one_line(text)
