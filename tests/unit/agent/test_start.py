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
