"""One write of the direct client: the commands it is made of, and what their replies mean."""

from dataclasses import dataclass

from redis.exceptions import ResponseError

from loadgen.recorder import Op
from resilience.history.record import Outcome
from resilience.spec.stack import Durability, Wait

Reply = object  # what the server answered; an exception if that was an error
Command = tuple[str, ...]


@dataclass(slots=True)
class Write:
    """A write on its way. ``expires_at`` is a value of `time.monotonic`; ``settled`` once its end is booked."""

    op: Op
    key: str
    value: str
    expires_at: float
    settled: bool = False


class WriteForm:
    """How writes are sent under a durability, and how their outcome is read off."""

    def __init__(self, durability: Durability, ttl_s: int) -> None:
        """Keys expire after ``ttl_s``."""
        self._wait = durability if isinstance(durability, Wait) else None
        self._ttl_s = str(ttl_s)

    @property
    def blocks(self) -> bool:
        """Whether a write keeps its connection until replicas answered."""
        return self._wait is not None

    @property
    def replies(self) -> int:
        """How many replies a write has."""
        return 1 if self._wait is None else 2

    def commands(self, key: str, value: str) -> tuple[Command, ...]:
        """The commands, in the order in which one connection carries them."""
        write: Command = ("SET", key, value, "EX", self._ttl_s)
        if self._wait is None:
            return (write,)
        return (write, ("WAIT", str(self._wait.replicas), str(self._wait.timeout_ms)))

    def outcome(self, replies: list[Reply]) -> tuple[Outcome, str]:
        """Outcome and error: refused is a failure; fewer replicas than asked for is unknown."""
        if isinstance(replies[0], Exception):
            return "fail", error_class(replies[0])
        if self._wait is None:
            return "ok", ""
        acked = replies[1]
        if isinstance(acked, int) and acked >= self._wait.replicas:
            return "ok", ""
        return "unknown", "not-durable"


def error_class(error: Exception) -> str:
    """A short class of an error reply: Redis's own first word, or the client library's name for it."""
    words = str(error).split()
    if type(error) is ResponseError and words:
        return words[0].lower()
    return type(error).__name__.removesuffix("Error").lower()
