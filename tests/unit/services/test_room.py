"""A member's outbox, and edits as they travel between instances."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.order import Edit, edit_from_payload, payload_from_edit
from services.room import OUTBOX_MAX, Member


def outbox(member: Member) -> list[bytes | None]:
    return [member.outbox.get_nowait() for _ in range(member.outbox.qsize())]


def test_an_edit_is_sent_once_and_never_backwards():
    member = Member("a")
    for epoch, seq in [(1, 5), (1, 5), (1, 4), (2, 3), (1, 9)]:
        member.send_edit(Edit(position=(epoch, seq), base=0, text=""), f"{epoch}-{seq}".encode())
    assert outbox(member) == [b"1-5", b"2-3"]


def test_nothing_is_sent_past_a_member_that_is_being_repaired():
    member = Member("a")
    member.repairing = True
    member.send_edit(Edit(position=(1, 5), base=0, text=""), b"1-5")
    assert outbox(member) == []
    assert member.position < (1, 5)


def test_a_member_that_is_too_slow_is_closed_after_what_it_has():
    member = Member("a")
    for number in range(OUTBOX_MAX * 2):
        member.send(b"%d" % number)
    messages = outbox(member)
    assert member.overflowed
    assert len(messages) == OUTBOX_MAX
    assert messages[-1] is None
    assert messages[:2] == [b"0", b"1"]


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40), st.text())
def test_an_edit_survives_its_journey(epoch: int, seq: int, base: int, text: str):
    edit = Edit(position=(epoch, seq), base=base, text=text)
    assert edit_from_payload(payload_from_edit(edit)) == edit
    assert json.loads(payload_from_edit(edit)) == [epoch, seq, base, text]


@pytest.mark.parametrize("payload", ["", "[]", "[1,2,3]", '[1,2,"3","x"]', '{"a":1}'])
def test_what_is_not_an_edit_is_refused(payload: str):
    with pytest.raises(msgspec.DecodeError):
        edit_from_payload(payload)
