"""The instances behind the edge: which of them are healthy, and whose turn it is.

An instance is out after two failed health checks, or at once when it refuses a connection; one good check brings it
back. An instance that does not answer any more takes its WebSockets with it: they are closed towards the client.

Instances have names. One that is replaced may have the same name at another address, so that the address of one that
is out, and does not answer, is asked for again with each check.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from prometheus_client import Gauge

from services.config import address_from_text

CHECK_INTERVAL_S = 0.5
CHECK_TIMEOUT_S = 0.5
FAILURES_MAX = 2

log = logging.getLogger("services")


class Upstream:
    """One instance. It is out until its first good check."""

    def __init__(self, address: str, healthy: Gauge) -> None:
        self.base = f"http://{address}"
        self.host, self.port = address_from_text(address)
        self.healthy = False
        self._failures = 0
        self._gauge = healthy
        self._enders: set[Callable[[], None]] = set()

    def good(self) -> None:
        """It answered a health check."""
        self._failures = 0
        self._set(healthy=True)

    def bad(self) -> None:
        """It failed a health check: its answer was an error, or too late."""
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._set(healthy=False)

    def gone(self) -> None:
        """It does not answer at all."""
        self.bad()
        if not self.healthy:
            for end in tuple(self._enders):
                end()

    def refused(self) -> None:
        """It refused a connection: nobody is there."""
        self._failures = FAILURES_MAX
        self._set(healthy=False)

    def on_gone(self, end: Callable[[], None]) -> Callable[[], None]:
        """Call `end` when the instance is gone; the answer takes that back."""
        self._enders.add(end)
        return lambda: self._enders.discard(end)

    def _set(self, *, healthy: bool) -> None:
        if healthy is not self.healthy:
            log.info("%s is %s", self.base, "in" if healthy else "out")
        self.healthy = healthy
        self._gauge.set(healthy)


class Upstreams:
    """The instances of one component, in turn."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self.all = tuple(upstreams)
        self._next = 0

    @property
    def found(self) -> bool:
        """Whether one of them is in; so it is, too, where there are none to be found."""
        return not self.all or any(upstream.healthy for upstream in self.all)

    def choose(self, *, but: Upstream | None = None) -> Upstream | None:
        """The healthy instance whose turn it is, other than `but`; `None` if there is none."""
        for offset in range(len(self.all)):
            index = (self._next + offset) % len(self.all)
            upstream = self.all[index]
            if upstream.healthy and upstream is not but:
                self._next = index + 1
                return upstream
        return None


async def check_forever(upstream: Upstream, client: ClientSession) -> None:
    """Check one instance's health, each half second."""
    while True:
        await check(upstream, client)
        await asyncio.sleep(CHECK_INTERVAL_S)


async def check(upstream: Upstream, client: ClientSession) -> None:
    """Check one instance's health once."""
    timeout = ClientTimeout(total=CHECK_TIMEOUT_S)
    try:
        async with client.get(f"{upstream.base}/healthz", timeout=timeout) as response:
            await response.read()
            if response.status == 200:
                upstream.good()
            else:
                upstream.bad()
    except (ClientError, TimeoutError, OSError) as error:
        if is_refusal(error):
            upstream.refused()
        upstream.gone()
        # aiohttp believes an address for 10 s, longer than it takes to replace one instance and begin with the next
        if not upstream.healthy and isinstance(client.connector, TCPConnector):
            client.connector.clear_dns_cache(upstream.host, upstream.port)


def is_refusal(error: BaseException) -> bool:
    """Whether nobody listened at the address."""
    cause: BaseException | None = error
    with suppress(RecursionError):
        while cause is not None:
            if isinstance(cause, ConnectionRefusedError):
                return True
            cause = cause.__cause__
    return False
