"""Registers take turns, live for some tens of ops, and outlive an outage; what an answer to their ops means."""

import pytest

from loadgen.postgresql_client import STANDBY, Heard, heard, said
from loadgen.postgresql_link import PUT, READ, SWAP
from loadgen.registers import AT_ONCE, KINDS, OPS_MAX, OPS_MIN, STANDING, Asked, Register, Registers
from resilience.history.record import ACKED_LOCALLY, MISMATCH, Outcome


def answered(registers: Registers, turns: int) -> list[Asked]:
    """The ops of so many turns on registers that a server answers at once."""
    done = []
    stored: dict[str, str] = {}
    for n in range(turns):
        for asked in registers.turn(n):
            key = asked.register.key
            missed = asked.kind == "register.swap" and stored.get(key, "") != asked.expected
            if asked.value and not missed:
                stored[key] = asked.value
            registers.ended(asked, "ok", stored.get(key, ""), mismatch=missed)
            done.append(asked)
    return done


def test_registers_take_turns_and_ops_meet_on_them() -> None:
    registers = Registers("pg", 1)
    turns = [registers.turn(n) for n in range(STANDING)]
    keys = [{asked.register.key for asked in turn} for turn in turns]
    assert [len(turn) for turn in turns] == [AT_ONCE] * STANDING
    assert all(len(key) == 1 for key in keys)
    assert len(set.union(*keys)) == STANDING


def test_a_register_is_left_after_some_tens_of_ops() -> None:
    done = answered(Registers("pg", 1), 500)
    of_each: dict[str, int] = {}
    for asked in done:
        of_each[asked.register.key] = of_each.get(asked.register.key, 0) + 1
    first, whole = list(of_each.values())[:STANDING], list(of_each.values())[STANDING:-STANDING]
    assert first == sorted(first)  # so that at no moment all of them are fresh
    assert first[0] < OPS_MAX // STANDING + AT_ONCE
    assert all(OPS_MIN <= number < OPS_MAX + AT_ONCE for number in whole)
    assert len(set(whole)) > 1


def test_every_kind_is_sent_and_every_value_once() -> None:
    done = answered(Registers("pg", 1), 500)
    assert {asked.kind for asked in done} == set(KINDS)
    values = [asked.value for asked in done if asked.value]
    assert len(set(values)) == len(values)
    swaps = [asked for asked in done if asked.kind == "register.swap"]
    assert all(asked.expected for asked in swaps)
    assert 0.1 < len(swaps) / len(done) < 0.3


def test_the_same_seed_asks_the_same() -> None:
    one, other = answered(Registers("pg", 7), 50), answered(Registers("pg", 7), 50)
    assert [(asked.register.key, asked.kind, asked.value, asked.expected) for asked in one] == [
        (asked.register.key, asked.kind, asked.value, asked.expected) for asked in other
    ]


def test_what_failed_does_not_use_a_register_up() -> None:
    registers = Registers("pg", 1)
    before = registers.turn(0)[0].register
    for n in range(0, 100 * STANDING, STANDING):
        for asked in registers.turn(n):
            registers.ended(asked, "fail", "")
    assert registers.turn(0)[0].register is before


def test_a_register_in_doubt_is_only_read_and_not_left_until_a_read_is_answered() -> None:
    """Through a PgBouncer without a server each write ends as one of unknown outcome, and each read as failed."""
    registers = Registers("pg", 1)
    register = registers.turn(0)[0].register
    registers.ended(Asked(register, "register.write", "who knows"), "unknown", "")
    register.left = 0
    registers.ended(Asked(register, "register.swap", "v", "u"), "ok", "u")  # it was sent before
    for n in range(0, 100 * STANDING, STANDING):
        turn = registers.turn(n)
        assert {(asked.register.key, asked.kind) for asked in turn} == {(register.key, "register.read")}
        registers.ended(turn[0], "fail", "")
    registers.ended(turn[0], "ok", "who knows")
    assert registers.turn(0)[0].register is not register


def test_a_compare_and_set_is_meant_for_what_was_heard_of_last() -> None:
    registers = Registers("pg", 1)
    asked = registers.turn(0)[0]
    registers.ended(Asked(asked.register, "register.write", "who knows"), "unknown", "")
    registers.ended(Asked(asked.register, "register.read"), "ok", "seen")
    registers.ended(Asked(asked.register, "register.swap", "missed", "older"), "ok", "older", mismatch=True)
    expected = {
        asked.expected for n in range(0, 10 * STANDING, STANDING) for asked in registers.turn(n)
        if asked.kind == "register.swap"
    }  # fmt: skip
    assert expected == {"seen"}


REGISTER = Register("k", 9)
ASKED_READ = Asked(REGISTER, "register.read")
ASKED_WRITE = Asked(REGISTER, "register.write", "v")
ASKED_SWAP = Asked(REGISTER, "register.swap", "v", "u")


def test_what_is_said_to_the_server() -> None:
    assert said(ASKED_READ) == (READ, ("k",))
    assert said(ASKED_WRITE) == (PUT, ("k", "v"))
    assert said(ASKED_SWAP) == (SWAP, ("k", "v", "u"))


@pytest.mark.parametrize(
    ("asked", "ended", "expect"),
    [
        (ASKED_READ, ("ok", "", [("f", "u")]), Heard("ok", "u", "")),
        (ASKED_READ, ("ok", "", [("f", None)]), Heard("ok", "", "")),
        (ASKED_READ, ("ok", "", [("t", "u")]), Heard("fail", "", STANDBY)),
        (ASKED_READ, ("unknown", "timeout", []), Heard("fail", "", "timeout")),
        (ASKED_READ, ("fail", "refused", []), Heard("fail", "", "refused")),
        (ASKED_WRITE, ("ok", ACKED_LOCALLY, []), Heard("ok", "", ACKED_LOCALLY)),
        (ASKED_WRITE, ("unknown", "lost", []), Heard("unknown", "", "lost")),
        (ASKED_SWAP, ("ok", "", [("v",)]), Heard("ok", "u", "")),
        (ASKED_SWAP, ("ok", "", []), Heard("ok", "u", MISMATCH)),
        (ASKED_SWAP, ("unknown", "timeout", []), Heard("unknown", "u", "timeout")),
        (ASKED_SWAP, ("fail", "25006", []), Heard("fail", "u", "25006")),
    ],
)
def test_what_an_answer_means(
    asked: Asked, ended: tuple[Outcome, str, list[tuple[str | None, ...]]], expect: Heard
) -> None:
    outcome, error, rows = ended
    assert heard(asked, outcome, error, rows) == expect
