"""Slots, against those that Redis gives (`CLUSTER KEYSLOT`)."""

import pytest

from services.slot import hash_tag, slot_from_key


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("plain", "plain"),
        ("session:{s-1}", "s-1"),
        ("a{}b{c}", "a{}b{c}"),  # an empty tag does not count, and the second is not looked at
        ("a{{b}}c", "{b"),
        ("a{b}{c}", "b"),
        ("a{b", "a{b"),
        ("}a{b}", "b"),
        ("", ""),
    ],
)
def test_hash_tag(key: str, tag: str):
    assert hash_tag(key) == tag


@pytest.mark.parametrize(("key", "slot"), [("foo", 12_182), ("123456789", 0x31C3), ("bar", 5_061), ("x{foo}y", 12_182)])
def test_slot(key: str, slot: int):
    assert slot_from_key(key) == slot
