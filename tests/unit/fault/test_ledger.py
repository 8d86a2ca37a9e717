from pathlib import Path

import msgspec
import pytest

from resilience.errors import FaultError
from resilience.fault.ledger import Entry, Ledger
from resilience.spec.fault import Injection, Kill, Target
from tests.full_disk import files_of_at_most


def planned(injection_id: str) -> Entry:
    injection = Injection(
        id=injection_id, fault=Kill(restart=False), target=Target(component="redis"), members=("redis-cluster-0",),
        nodes=(), ttl_s=35.0, steps=({"primitive": "hold", "dirs": []},), watch=(),
    )  # fmt: skip
    return Entry(at_us=1, injection=injection_id, state="planned", spec=injection)


def healed(injection_id: str) -> Entry:
    return Entry(at_us=9, injection=injection_id, state="healed", by="ttl")


def ledger_with(folder: Path, *entries: Entry) -> Ledger:
    ledger = Ledger(folder / "ledger.jsonl")
    for entry in entries:
        ledger.append(entry)
    return ledger


def test_a_ledger_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "ledger.jsonl").open_injections() == ()


def test_what_is_planned_is_open_until_it_is_healed(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, planned("a-1"), planned("b-2"), healed("a-1"))
    assert [injection.id for injection in ledger.open_injections()] == ["b-2"]
    assert [injection.id for injection in ledger.injections()] == ["a-1", "b-2"]
    assert ledger.injections()[0] == planned("a-1").spec
    entry = ledger.last("a-1", "healed")
    assert entry is not None
    assert entry.by == "ttl"


def test_what_is_planned_is_in_effect_once_it_was_applied(tmp_path: Path) -> None:
    applied = Entry(at_us=2, injection="a-1", state="applied", began_us=1)
    ledger = ledger_with(tmp_path, planned("a-1"), planned("b-2"))
    assert ledger.in_effect() == ()
    ledger.append(applied)
    assert [injection.id for injection in ledger.in_effect()] == ["a-1"]
    ledger.append(healed("a-1"))
    assert ledger.in_effect() == ()


@pytest.mark.parametrize("length", [1, 20, 60])
def test_a_torn_last_line_is_left_out(tmp_path: Path, length: int) -> None:
    ledger = ledger_with(tmp_path, planned("a-1"))
    with ledger.path.open("ab") as file:
        file.write(
            b'{"at_us":9,"injection":"a-1","state":"healed","by":"ttl"}'[: length - 5 if length == 60 else length]
        )
    assert [injection.id for injection in ledger.open_injections()] == ["a-1"]


def test_a_bad_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, planned("a-1"))
    with ledger.path.open("ab") as file:
        file.write(b"nonsense\n")
    ledger.append(healed("a-1"))
    with pytest.raises(FaultError, match=r"ledger\.jsonl:2"):
        ledger.open_injections()


def test_without_a_ledger_nothing_goes_on(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="nothing is injected without a ledger"):
        Ledger(tmp_path / "missing" / "ledger.jsonl").append(planned("a-1"))


def test_a_disk_that_takes_a_part_of_a_line_has_taken_none(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, planned("a-1"))
    size_bytes = ledger.path.stat().st_size
    with files_of_at_most(size_bytes + 20), pytest.raises(FaultError, match="nothing is injected without a ledger"):
        ledger.append(planned("b-2"))
    assert ledger.path.stat().st_size == size_bytes + 20
    assert [injection.id for injection in ledger.injections()] == ["a-1"]


def test_what_comes_after_a_part_of_a_line_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    """Be it of this process or of the agent: what stays open is ended by whoever reads the ledger, and closed there."""
    ledger = ledger_with(tmp_path, planned("a-1"))
    with files_of_at_most(ledger.path.stat().st_size + 20), pytest.raises(FaultError):
        ledger.append(healed("a-1"))
    ledger.append(planned("b-2"))
    assert [injection.id for injection in ledger.open_injections()] == ["a-1", "b-2"]
    ledger.append(healed("a-1"))
    assert [injection.id for injection in ledger.open_injections()] == ["b-2"]


def test_wherever_a_line_is_torn_the_others_are_read(tmp_path: Path) -> None:
    first, torn, last = (msgspec.json.encode(planned(name)) for name in ("a-1", "b-2", "c-3"))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for length in range(1, len(torn)):
        ledger.path.write_bytes(b"\n".join((first, torn[:length], last, b"")))
        assert [injection.id for injection in ledger.injections()] == ["a-1", "c-3"]


def test_what_was_planned_before_is_somebody_elses(tmp_path: Path) -> None:
    late = msgspec.structs.replace(planned("b-2"), at_us=5)
    ledger_with(tmp_path, planned("a-1"), late, healed("a-1"))
    mine = Ledger(tmp_path / "ledger.jsonl", since_us=5)
    assert [injection.id for injection in mine.injections()] == ["b-2"]
    assert mine.last("a-1", "healed") is None
