"""The ids of services' events: which belongs to which end of a session, and to which edit (``services/README.md``)."""

from typing import NamedTuple

import msgspec
import numpy as np

from resilience.history.columns import Flags, Texts

_ENDED = "session-ended/"
_EDITED = "room-edited/"


class EditEvent(NamedTuple):
    """What a message says of an edit: its id, and what was written to which room."""

    event: str
    room: str
    edit: str


def event_of(session: str, op: str) -> str:
    """The event of an end, by the session and the id of the op: the row in the outbox, and the message, are that."""
    return f"{_ENDED}{session}/{op}"


def event_of_edit(room: str, epoch: int, seq: int) -> str:
    """The id of the event of an edit; its message is that, and the edit behind a space."""
    return f"{_EDITED}{room}/{epoch}/{seq}"


def op_of(event: str) -> str:
    """The op that an event is of the end of, "" for what is none."""
    return event.rpartition("/")[2] if event.startswith(_ENDED) else ""


def edit_in(message: str) -> EditEvent:
    """What a message says that is an event of an edit; an edit that cannot be read is "", as nobody's is."""
    event, _, payload = message.partition(" ")
    room = event.removeprefix(_EDITED).partition("/")[0]
    try:
        *_, edit = msgspec.json.decode(payload, type=tuple[int, int, int, str])
    except msgspec.DecodeError:
        edit = ""
    return EditEvent(event, room, str(edit))


def is_event(value: str) -> bool:
    """Whether a message is an event of a service, and none of the load's own."""
    return value.startswith((_ENDED, _EDITED))


def events_among(values: Texts) -> Flags:
    """Which of these messages are events of ends."""
    found: Flags = np.strings.startswith(values, _ENDED)
    return found


def edits_among(values: Texts) -> Flags:
    """Which of these messages are events of edits."""
    found: Flags = np.strings.startswith(values, _EDITED)
    return found
