"""How the runner in its pod has something done to nodes: by a ConfigMap that the harness outside looks at.

::

    the runner's pod  ─ asked ──▶  ConfigMap `machine`  ◀── answered ─  the harness outside ─ Docker ─▶ nodes

A question has a token; that it was taken, and its answer, name that. One that nobody takes, or that gets no answer, is
asked again under another: every command may be given twice (`resilience.agent.node`). What an injection takes away is
written down before it is asked for, so that nobody waits for agents that stand on such a node.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from resilience.backend.kubernetes.api import Api, ApiError
from resilience.backend.kubernetes.workload import MACHINE, NAMESPACE
from resilience.backend.machine.desk import Machine, hosts_in
from resilience.errors import HarnessError, StackError

EVERY_S = 0.2
TAKEN_WITHIN_S = 10.0  # by then a harness that is there has looked
ANSWERED_WITHIN_S_MAX = 120.0  # what a runner asks for is under that: `injector`
_JOIN_S = ANSWERED_WITHIN_S_MAX + 10.0  # nobody puts nodes right beside a question that is still being answered
_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{MACHINE}"
_ASKED, _TAKEN, _ANSWERED, _HOSTS = "asked", "taken", "answered", "hosts."  # keys of the ConfigMap

Json = dict[str, Any]


class Mailbox:
    """The `Machine` as it is reached from a pod."""

    def __init__(self, api: Api, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Asks nothing."""
        self._api = api
        self._sleep = sleep

    def ask(self, command: str, request: Mapping[str, Any], timeout_s: float) -> Json:
        """See `Machine`."""
        token = secrets.token_hex(8)
        letter = {"token": token, "command": command, "request": request, "timeout_s": timeout_s}
        data = {_ASKED: json.dumps(letter)}
        if command == "apply":
            data[_HOSTS + request["injection"]["id"]] = json.dumps(hosts_in(request["injection"]))
        self._api.patch(_PATH, {"data": data})
        waited_s = 0.0  # a question to the API server that takes long takes of it, too
        while waited_s < timeout_s:
            began = time.monotonic()
            found = self._api.get(_PATH)
            answered = _letter(found, _ANSWERED)
            if answered.get("token") == token:
                return _opened(answered)
            if waited_s > TAKEN_WITHIN_S and _letter(found, _TAKEN).get("token") != token:
                raise StackError("the harness outside, which would tell the machine, is not there")
            waited_s += time.monotonic() - began + EVERY_S
            self._sleep(EVERY_S)
        raise StackError(f"'{command}' of the machine under the nodes: the harness outside has not answered")

    def hosts_of(self, injection_id: str) -> tuple[str, ...] | None:
        """See `Machine`."""
        found = self._api.find(_PATH) or {}
        hosts = json.loads((found.get("data") or {}).get(_HOSTS + injection_id, "null"))
        return None if hosts is None else tuple(hosts)


class Clerk:
    """Answers, outside, what a runner asks of the machine."""

    def __init__(self, api: Api, machine: Machine) -> None:
        """Looks at nothing."""
        self._api = api
        self._machine = machine

    def answer(self) -> bool:
        """Answers the question that has none yet, if there is one. Raises `ApiError`."""
        found = self._api.get(_PATH)
        asked = _letter(found, _ASKED)
        token = asked.get("token", "")
        if not token or token == _letter(found, _ANSWERED).get("token"):
            return False
        self._api.patch(_PATH, {"data": {_TAKEN: json.dumps({"token": token})}})
        try:
            said: Json = {"answer": self._machine.ask(asked["command"], asked["request"], _seconds(asked["timeout_s"]))}
        except (HarnessError, OSError, ValueError, KeyError, TypeError) as error:
            said = {"trouble": str(error) or repr(error)}
        self._api.patch(_PATH, {"data": {_ANSWERED: json.dumps({"token": token, **said})}})
        return True


@contextmanager
def answering(clerk: Clerk) -> Iterator[None]:
    """Answers while it is entered, by a thread of its own."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(EVERY_S):
            try:
                clerk.answer()
            except ApiError:  # the API server is away, or there is no ConfigMap yet: it is tried again
                continue

    thread = threading.Thread(target=keep, name="clerk", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_JOIN_S)


def _seconds(asked: Any) -> float:
    """How long the machine may take; a pod has said so, and nobody else is answered meanwhile."""
    if not 0 < (seconds := float(asked)) <= ANSWERED_WITHIN_S_MAX:
        raise ValueError(f"timeout_s: {asked}: expected at most {ANSWERED_WITHIN_S_MAX:g} s")
    return seconds


def _opened(answered: Json) -> Json:
    if "trouble" in answered:
        raise StackError(f"the machine under the nodes: {answered['trouble']}")
    answer: Json = answered["answer"]
    return answer


def _letter(found: Mapping[str, Any], key: str) -> Json:
    """What stands under a key; empty for what is no letter, which a pod may have written."""
    try:
        letter = json.loads((found.get("data") or {}).get(key) or "{}")
    except ValueError:
        return {}
    return letter if isinstance(letter, dict) else {}
