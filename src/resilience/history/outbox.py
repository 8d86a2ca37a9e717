"""The ids of events: which belongs to which end of a session (``services/README.md``)."""

import numpy as np

from resilience.history.columns import Flags, Texts

_PREFIX = "session-ended/"


def event_of(session: str, op: str) -> str:
    """The event of an end, by the session and the id of the op: the row in the outbox, and the message, are that."""
    return f"{_PREFIX}{session}/{op}"


def op_of(event: str) -> str:
    """The op that an event is of, "" for what is none."""
    return event.rpartition("/")[2] if is_event(event) else ""


def is_event(value: str) -> bool:
    """Whether a message is an event of the session service, and none of the load's own."""
    return value.startswith(_PREFIX)


def events_among(values: Texts) -> Flags:
    """Which of these messages are events."""
    found: Flags = np.strings.startswith(values, _PREFIX)
    return found
