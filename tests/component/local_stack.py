"""Stacks of the local backend, brought up for a test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resilience.backend.local.place import calling_user
from resilience.backend.local.platform import LocalBackend, OwnedLocalPlatform
from resilience.backend.local.sandbox import state_dir
from resilience.history.clock import RunClock
from resilience.spec.stack import Stack


@contextmanager
def brought_up(stack: Stack, image: Path, with_logs: Path) -> Iterator[OwnedLocalPlatform]:
    """A stack whose processes have been started; only one at a time."""
    state = state_dir(calling_user()) / with_logs.parent.name / with_logs.name
    state.mkdir(parents=True)
    ledger = with_logs / "ledger.jsonl"
    backend = LocalBackend(state, image, ledger, RunClock.starting_now().base_ns, lambda _name, _data: None)
    owned = backend.up(stack, with_logs)
    try:
        yield owned
    finally:
        owned.down()
        for folder in ("pods", "archive"):  # all tests share the sandbox's 4 GB, and a PostgreSQL tier takes 0.3
            shutil.rmtree(state / folder)
