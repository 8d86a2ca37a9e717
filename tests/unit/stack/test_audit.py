from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from resilience.errors import StackError
from resilience.history.record import DirectRead, Line, RoomRead, SessionRead
from resilience.stack.audit import BATCH, DIRECT, ROOM, SESSION, Asked, Reading, batches
from resilience.stack.redis_cluster import group_of_key
from tests.unit.stack.views import STACK

KEY = Asked(key="k", group=2)


@dataclass(frozen=True)
class Case:
    name: str
    reading: Reading
    answers: Sequence[Any]
    expect: Line


CASES = (
    Case("a direct key", DIRECT, ["value"], DirectRead("k", "value", 2)),
    Case("an empty value is a value", DIRECT, [""], DirectRead("k", "", 2)),
    Case("no direct key", DIRECT, [None], DirectRead("k", None, 2)),
    Case(
        "a session",
        SESSION,
        [["live", "2"], 604_000, ['[1,"op-1",""]', '[2,"op-2","0123456789abcdef"]']],
        SessionRead("k", 2, True, "live", 2, 604_000, ((1, "op-1", ""), (2, "op-2", "0123456789abcdef"))),
    ),
    Case("no session", SESSION, [[None, None], -2, []], SessionRead("k", 2, False, "", 0, -2, ())),
    Case("a session that never ends", SESSION, [["live", "1"], -1, []], SessionRead("k", 2, True, "live", 1, -1, ())),
    Case(
        "a log whose session is gone",
        SESSION,
        [[None, None], -2, ['[1,"op-1",""]']],
        SessionRead("k", 2, False, "", 0, -2, ((1, "op-1", ""),)),
    ),
    Case("a room", ROOM, [["3", "1"], ['[2,9,"e-1"]']], RoomRead("k", 2, 3, ((2, 9, "e-1"),))),
    Case("no room", ROOM, [[None, None], []], RoomRead("k", 2, -1, ())),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_become_lines(case: Case):
    assert case.reading.line(KEY, case.answers) == case.expect
    assert len(case.answers) == len(case.reading.commands("k"))


@pytest.mark.parametrize(
    ("reading", "answers"),
    [
        (SESSION, [["live", "2"], 1, ["no row"]]),
        (SESSION, [["live", "2"], 1, ['["1","op",""]']]),
        (SESSION, [["live", "two"], 1, []]),
        (ROOM, [["0", "1"], ['[1,"e-1"]']]),
        (ROOM, [["-", "1"], []]),
    ],
)
def test_what_cannot_be_read_never_passes_for_lost(reading: Reading, answers: Sequence[Any]):
    with pytest.raises(StackError, match="k"):
        reading.line(KEY, answers)


def test_all_commands_of_a_key_stay_in_its_shard():
    for reading, tag in ((SESSION, "{s-1}"), (ROOM, "{room-1}")):
        keys = [command[1] for command in reading.commands(tag[1:-1])]
        assert all(tag in str(key) for key in keys)
        assert len({group_of_key(STACK, str(key)) for key in keys}) == 1


def test_batches_are_bounded_of_one_shard_and_complete():
    keys = [Asked(key=f"k{number}", group=1 + number % 2) for number in range(3 * BATCH)]
    made = list(batches(keys))
    assert [len(batch) for batch in made] == [BATCH, BATCH // 2, BATCH, BATCH // 2]
    assert all(len({asked.group for asked in batch}) == 1 for batch in made)
    assert sorted(asked.key for batch in made for asked in batch) == sorted(asked.key for asked in keys)
    assert list(batches([])) == []
