"""Where a queue of RabbitMQ was led, and to whom its consumers were connected."""

from resilience.history.read import History


def leader_at(history: History, queue: str, instant_us: int) -> str:
    """The member that led a queue at an instant, as far as it was seen; "" if nobody was known to."""
    leader = ""
    for event in history.events_of("queue-role"):
        if event.at <= instant_us and event.data["queue"] == queue:
            leader = str(event.data["leader"])
    return leader


def member_of(history: History) -> dict[str, str]:
    """The member that each consumer was connected to; a consumer that is not on record is missing."""
    return {line.consumer: line.member for line in history.attached}
