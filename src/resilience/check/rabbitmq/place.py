"""Where a queue of RabbitMQ was led and held, and to whom its consumers were connected."""

from typing import Any

from resilience.history.read import History


def leader_at(history: History, queue: str, instant_us: int) -> str:
    """The member that led a queue at an instant, as far as it was seen; "" if nobody was known to."""
    return str(_seen_at(history, queue, instant_us).get("leader", ""))


def copies_at(history: History, queue: str, instant_us: int) -> set[str]:
    """The members that held a copy of a queue at an instant, as far as they were seen."""
    return set(_seen_at(history, queue, instant_us).get("copies", ()))


def _seen_at(history: History, queue: str, instant_us: int) -> dict[str, Any]:
    """What was seen of a queue last, up to an instant, as the event ``queue-role`` has it."""
    seen: dict[str, Any] = {}
    for event in history.events_of("queue-role"):
        if event.at <= instant_us and event.data["queue"] == queue:
            seen = event.data
    return seen


def member_of(history: History) -> dict[str, str]:
    """The member that each consumer was connected to; a consumer that is not on record is missing."""
    return {line.consumer: line.member for line in history.attached}


def consumers_at(history: History, queue: str, instant_us: int) -> set[str]:
    """The members that a queue's consumers were connected to at an instant."""
    gone = {line.consumer for line in history.detached if line.at <= instant_us}
    attached = (line for line in history.attached if line.queue == queue and line.at <= instant_us)
    return {line.member for line in attached if line.consumer not in gone}
