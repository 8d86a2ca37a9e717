"""One HTTP request to a member, for the harness's own questions: a time-out, no redirect, no proxy, no retry."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from resilience.backend.base import MemberState
from resilience.errors import StackError
from resilience.spec.stack import PORTS

SHOWN_BYTES = 200


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A member's answer, whatever its status."""

    member: str
    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises `StackError` if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise StackError(f"{self}: not JSON") from error

    def __str__(self) -> str:
        """One line for messages: who, the status, the beginning of the body."""
        text = " ".join(self.body[:SHOWN_BYTES].decode("utf-8", "replace").split())
        return f"{self.member} answered {self.status} {text}".rstrip()


def http_ask(
    member: MemberState,
    path: str,
    *,
    timeout_s: float = 1.0,
    method: str = "GET",
    payload: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    port: int | None = None,
) -> HttpAnswer:
    """Asks a member over HTTP; ``payload`` is sent as JSON. Raises `StackError` if no answer comes.

    ``timeout_s`` holds for connecting and for each part of the answer; ``port`` is another than the component's own.
    """
    connection = http.client.HTTPConnection(member.address, port or PORTS[member.component], timeout=timeout_s)
    body = None if payload is None else json.dumps(payload)
    typed = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, body, {**typed, **(headers or {})})
        response = connection.getresponse()
        return HttpAnswer(member=member.name, status=response.status, body=response.read())
    except (OSError, http.client.HTTPException) as error:
        raise StackError(f"{member.name} does not answer {method} {path}: {error!r}") from error
    finally:
        connection.close()
