from pathlib import Path

import pytest

from resilience.backend import choice
from resilience.backend.choice import BACKENDS, able, attach, enter, is_in_place
from resilience.errors import HostError, StackError
from resilience.spec.fault import (
    Delete,
    Deny,
    Drain,
    FaultSpec,
    Freeze,
    Isolate,
    Kill,
    PowerOff,
    Reboot,
    RollingRestart,
    Scale,
)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESILIENCE_INSIDE", raising=False)


@pytest.mark.usefixtures("nowhere")
def test_outside_of_all_places_no_run_begins(tmp_path: Path) -> None:
    assert not is_in_place()
    with pytest.raises(HostError, match="resilience run"):
        enter(tmp_path / "ledger.jsonl", 0, lambda _name, _data: None)


def test_in_a_sandbox_it_is_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choice, "image_inside", lambda: tmp_path)
    monkeypatch.setattr(choice, "furnish", lambda _owner: tmp_path / "state")
    backend = enter(tmp_path / "ledger.jsonl", 0, lambda _name, _data: None)
    assert (backend.name, backend.state) == ("local", tmp_path / "state")
    assert is_in_place()


@pytest.mark.parametrize("name", BACKENDS)
def test_attaching_to_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(StackError):
        attach(name, tmp_path)


@pytest.mark.parametrize(
    ("fault", "stacks"),
    [
        (Kill(restart=True), ("local", "kind", "kubernetes")),
        (Freeze(), ("local", "kind")),
        (Reboot(), ("kind",)),
        (Isolate(), ("local", "kind")),
        (PowerOff(), ("local", "kind")),
        (Drain(), ("kind", "kubernetes")),
        (Delete(), ("kind", "kubernetes")),
        (Scale(), ("kind", "kubernetes")),
        (Deny(to="redis"), ("kind", "kubernetes")),
        (RollingRestart(), ("kind", "kubernetes")),
    ],
    ids=repr,
)
def test_who_can_carry_a_fault_out(fault: FaultSpec, stacks: tuple[str, ...]) -> None:
    assert able(fault) == stacks
