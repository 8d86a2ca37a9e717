"""The daemon's first act: what it says of an injection that failed, and that it stays while something is left."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilience.agent import start
from resilience.agent.error import AgentError
from resilience.agent.job import Job

Told = Callable[[bool], tuple[dict[str, Any], list[int]]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What is said of a failed injection, and how long ago its time began if it is looked after."""
    served: list[int] = []
    monkeypatch.setattr(start, "_detach", lambda _job: None)
    monkeypatch.setattr(start, "listen", lambda _job: None)
    monkeypatch.setattr(start, "serve", lambda _job, _listener, applied_ns: served.append(-applied_ns))
    monkeypatch.setattr("time.monotonic_ns", lambda: 0)
    monkeypatch.setattr("os._exit", lambda _code: None)

    def fail(left: bool) -> tuple[dict[str, Any], list[int]]:
        injection = {"id": "test-1", "ttl_s": 9, "steps": [], "watch": []}
        job = Job({"injection": injection, "dir": str(tmp_path), "ledger": "", "base_ns": 0})

        def apply(_at_ns: int) -> dict[str, int]:
            job.left = left
            raise AgentError("half done")

        monkeypatch.setattr(job, "apply", apply)
        reader, writer = os.pipe()
        start._be_daemon(job, 0, writer)
        with os.fdopen(reader) as said:
            return json.loads(said.readline()), served

    return fail


def test_nobody_looks_after_what_is_undone(told: Told) -> None:
    assert told(False) == ({"error": "half done"}, [])


def test_what_is_left_is_looked_after_as_if_its_time_were_over(told: Told) -> None:
    assert told(True) == ({"error": "half done"}, [9_000_000_000])


def test_the_first_word_is_waited_for_from_its_instant_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order may be given long before, and a drain takes a while from then on."""
    waited_s: list[float] = []

    def nobody_speaks(_read: Any, _write: Any, _error: Any, timeout_s: float) -> tuple[list[int], list[int], list[int]]:
        waited_s.append(timeout_s)
        return [], [], []

    monkeypatch.setattr("select.select", nobody_speaks)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    for at_ns in (0, 120_000_000_000):
        with pytest.raises(AgentError, match="silent without a word"):
            start._first_word(0, at_ns)
    assert waited_s == [start.APPLIED_WITHIN_S, 20.0 + start.APPLIED_WITHIN_S]
