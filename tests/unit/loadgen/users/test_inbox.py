"""What a member has of its room: in order, once, with gaps on record."""

from loadgen.users.inbox import Inbox, Row


def row(seq: int, epoch: int = 1) -> Row:
    return Row(epoch, seq, f"e{epoch}-{seq}")


def inbox(seq: int = 10) -> Inbox:
    box = Inbox()
    assert box.joined((1, seq), [row(1)]) == []  # who comes for the first time begins at the head
    return box


def seen(deliveries) -> list[tuple[int, str]]:
    return [(delivery.row.seq, delivery.how) for delivery in deliveries]


def test_edits_in_order_are_delivered():
    box = inbox()
    assert seen(box.live(row(11))) == [(11, "live")]
    assert seen(box.live(row(12))) == [(12, "live")]
    assert box.position == (1, 12)
    assert not box.asking


def test_beyond_a_gap_it_holds_and_asks():
    box = inbox()
    assert box.live(row(13)) == []
    assert (box.asking, box.position) == (True, (1, 10))
    assert seen(box.missed((1, 13), [row(11), row(12)])) == [(11, "replay"), (12, "replay"), (13, "live")]
    assert (box.asking, box.position) == (False, (1, 13))


def test_what_came_by_replay_is_not_delivered_again():
    box = inbox()
    box.live(row(12))
    assert seen(box.missed((1, 12), [row(11), row(12)])) == [(11, "replay"), (12, "replay")]
    assert box.live(row(11)) == []  # late, but it is there


def test_an_edit_that_comes_twice_is_on_record_twice():
    box = inbox()
    box.live(row(11))
    assert seen(box.live(row(11))) == [(11, "live")]
    assert box.position == (1, 11)


def test_what_lies_before_the_join_is_not_its_own():
    assert inbox().live(row(10)) == []


def test_what_cannot_be_had_is_passed_over():
    box = inbox()
    box.live(row(13))
    assert seen(box.missed((1, 13), [])) == [(13, "live")]
    assert box.position == (1, 13)


def test_a_lost_tail_is_asked_for():
    box = inbox()
    asked = []
    for head in ((1, 10), (1, 12)):
        box.head(head)
        asked.append(box.asking)
    assert asked == [False, True]
    assert seen(box.missed((1, 12), [row(11), row(12)])) == [(11, "replay"), (12, "replay")]


def test_a_lost_tail_that_nobody_has_is_passed_over():
    box = inbox()
    box.head((1, 12))
    assert box.missed((1, 12), []) == []
    assert box.position == (1, 12)
    assert not box.asking


def test_it_asks_again_while_the_answer_is_not_the_whole():
    box = inbox()
    box.head((1, 14))
    box.missed((1, 14), [row(11), row(12)])
    assert box.asking


def test_ahead_of_the_room_it_asks_and_is_told_to_resynchronise():
    box = inbox()
    box.head((1, 8))
    asked = [box.asking]
    box.resync((1, 8))
    assert [*asked, box.asking] == [True, False]
    assert seen(box.missed((2, 9), [row(9, epoch=2)])) == [(9, "replay")]
    assert box.position == (2, 9)


def test_another_epoch_is_a_gap_until_it_is_asked_about():
    box = inbox()
    assert box.live(row(11, epoch=2)) == []
    assert box.asking


def test_who_comes_back_gets_what_was_missed():
    box = inbox()
    box.live(row(11))
    assert seen(box.joined((1, 13), [row(12), row(13)])) == [(12, "replay"), (13, "replay")]
    assert box.live(row(13)) == []
