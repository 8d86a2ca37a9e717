"""The rate limit of the edge: a token bucket for each client, in bounded memory."""

from collections import OrderedDict

from services.config import Rate

CLIENTS_MAX = 10_000


class Limit:
    """Lets each client make `rate.per_s` requests per second, and `rate.burst` at once after a pause.

    The client that was not seen for the longest time is forgotten first; it then has a full bucket again.
    """

    def __init__(self, rate: Rate, clients_max: int = CLIENTS_MAX) -> None:
        self._rate = rate
        self._clients_max = clients_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: tokens, at

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, client: str, now: float) -> bool:
        """Whether the client may make one more request; `now` in seconds on any clock that only goes forward."""
        tokens, at = self._buckets.get(client, (self._rate.burst, now))
        tokens = min(self._rate.burst, tokens + (now - at) * self._rate.per_s)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._clients_max:
            self._buckets.popitem(last=False)
        return allowed
