"""The messages of a room, as they come."""

import msgspec
import pytest

from loadgen.users.message import Ack, Edit, Head, Joined, Missed, Presence, Refused, Resync, ServerMessage


@pytest.mark.parametrize(
    ("text", "expect"),
    [
        ('{"type":"joined","epoch":1,"seq":2,"members":5,"edits":[[1,2,"x"]]}', Joined(1, 2, 5, ((1, 2, "x"),))),
        ('{"type":"ack","edit":"x","epoch":1,"seq":2}', Ack("x", 1, 2)),
        ('{"type":"refused","edit":"x","error":"down","outcome":"fail"}', Refused("x", "down", "fail")),
        ('{"type":"refused","edit":null,"error":"down","outcome":"fail"}', Refused(None, "down", "fail")),
        ('{"type":"edit","epoch":1,"seq":2,"edit":"x"}', Edit(1, 2, "x")),
        ('{"type":"head","epoch":1,"seq":2}', Head(1, 2)),
        ('{"type":"missed","edits":[],"epoch":1,"seq":2}', Missed(1, 2)),
        ('{"type":"resync","epoch":1,"seq":2}', Resync(1, 2)),
        ('{"type":"presence","members":["a"]}', Presence(("a",))),
    ],
)
def test_messages(text, expect):
    assert msgspec.json.decode(text, type=ServerMessage) == expect


@pytest.mark.parametrize("text", ["", "[]", '{"type":"nonsense"}', '{"type":"ack","edit":"x"}'])
def test_anything_else_is_refused(text):
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(text, type=ServerMessage)
