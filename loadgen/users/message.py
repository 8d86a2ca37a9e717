"""The messages of a room's WebSocket, as the collaboration service defines them."""

import msgspec

Rows = tuple[tuple[int, int, str], ...]  # epoch, sequence number, edit


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all messages; ``type`` says which it is."""


class Joined(Message, frozen=True, tag="joined"):
    """The member is let in; ``edits`` are those after the position that it named."""

    epoch: int
    seq: int
    members: int = 0
    edits: Rows = ()


class Ack(Message, frozen=True, tag="ack"):
    """An edit of this connection is stored."""

    edit: str
    epoch: int
    seq: int


class Refused(Message, frozen=True, tag="refused"):
    """An edit of this connection was not stored (``fail``), or may have been (``unknown``).

    Without an edit it answers another question, that could not be answered: joining, what was missed, who is there.
    """

    edit: str | None
    error: str
    outcome: str


class Edit(Message, frozen=True, tag="edit"):
    """Somebody's edit, fanned out."""

    epoch: int
    seq: int
    edit: str


class Head(Message, frozen=True, tag="head"):
    """The last edit of the room; comes once a second while the room's log can be read."""

    epoch: int
    seq: int


class Missed(Message, frozen=True, tag="missed"):
    """The edits after a position that was asked about, and the room's last one."""

    epoch: int
    seq: int
    edits: Rows = ()


class Resync(Message, frozen=True, tag="resync"):
    """The member is ahead of what is stored: it continues from here."""

    epoch: int
    seq: int


class Presence(Message, frozen=True, tag="presence"):
    """Who is in the room."""

    members: tuple[str, ...] = ()


ServerMessage = Joined | Ack | Refused | Edit | Head | Missed | Resync | Presence
