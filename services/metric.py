"""What the services count; every label exists at 0 from the start, so that a first error is seen as an increase."""

import logging
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

log = logging.getLogger("services")
OUTCOMES = ("ok", "rejected", "fail", "unknown")
LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def new_registry() -> CollectorRegistry:
    """A registry of this service's own, with its process's CPU time and memory."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class RequestMetrics:
    """Requests (and WebSocket messages) by route and outcome; `rejected`: the request itself was at fault."""

    def __init__(self, registry: CollectorRegistry, routes: Iterable[str]) -> None:
        total = Counter("service_requests", "Requests by route and outcome.", ["route", "outcome"], registry=registry)
        seconds = Histogram(
            "service_request_seconds",
            "Time to answer a request, in seconds.",
            ["route"],
            buckets=LATENCY_BOUNDS_S,
            registry=registry,
        )
        names = (*routes, "healthz", "metrics", "other")
        self._total = {(name, outcome): total.labels(name, outcome) for name in names for outcome in OUTCOMES}
        self._seconds = {name: seconds.labels(name) for name in names}

    def observe(self, route: str, outcome: str, duration_s: float) -> None:
        """Book one request."""
        self._total[route, outcome].inc()
        self._seconds[route].observe(duration_s)


class StoreMetrics:
    """What happens between a service and Redis."""

    def __init__(self, registry: CollectorRegistry, reasons: Iterable[str]) -> None:
        errors = Counter("redis_errors", "Errors of Redis by reason.", ["reason"], registry=registry)
        refreshes = Counter("redis_topology_refreshes", "Refreshes of the slot map.", ["outcome"], registry=registry)
        self.errors = {reason: errors.labels(reason) for reason in reasons}
        self.refreshes = {outcome: refreshes.labels(outcome) for outcome in ("ok", "fail")}
        self.redirects = Counter("redis_redirects", "MOVED and ASK that were followed.", registry=registry)
        self.connections = Gauge("redis_connections", "Open connections in the pools.", registry=registry)


class Stores:
    """The stores that a part of a service works with: counts their errors, and logs the first of several in a row."""

    def __init__(self, part: str, errors: Mapping[str, Counter]) -> None:
        self._part = part
        self._errors = errors
        self._troubled: set[str] = set()  # those that something went wrong with since they last did their work

    def tell(self, store: str, problem: str) -> None:
        """Something went wrong with a store."""
        self._errors[store].inc()
        if store not in self._troubled:
            log.warning("%s: %s: %s", self._part, store, problem)
            self._troubled.add(store)

    def is_well(self, store: str) -> None:
        """A store has done its work."""
        if store in self._troubled:
            log.info("%s: %s is well again", self._part, store)
            self._troubled.remove(store)


class OutboxMetrics:
    """Events on their way from the outbox to RabbitMQ."""

    def __init__(self, registry: CollectorRegistry) -> None:
        errors = Counter("outbox_errors", "What went wrong on the way, by store.", ["store"], registry=registry)
        self.errors = {store: errors.labels(store) for store in ("postgresql", "rabbitmq")}
        self.written = Counter("outbox_written", "Rows that were written.", registry=registry)
        self.published = Counter("outbox_published", "Rows whose event was confirmed and marked.", registry=registry)


class ProfileMetrics:
    """What becomes of events, and where suggestions are read."""

    def __init__(self, registry: CollectorRegistry) -> None:
        errors = Counter("profile_errors", "What went wrong, by store.", ["store"], registry=registry)
        self.errors = {store: errors.labels(store) for store in ("postgresql", "replica", "rabbitmq", "session")}
        reads = Counter("profile_reads", "Profiles that were read, by where.", ["source"], registry=registry)
        self.reads = {source: reads.labels(source) for source in ("replica", "primary")}
        self.stale = Counter("profile_stale", "Replicas that were too far behind to be read.", registry=registry)
        self.effects = Counter("profile_effects", "Events that profiles have now, whoever had them.", registry=registry)
        self.redelivered = Counter("profile_redelivered", "Events that were handed over again.", registry=registry)


class PeerMetrics:
    """What a service asks of another one."""

    def __init__(self, registry: CollectorRegistry, peer: str) -> None:
        calls = Counter(
            "peer_calls", "Questions to another service by outcome.", ["peer", "outcome"], registry=registry
        )
        self.outcomes = {outcome: calls.labels(peer, outcome) for outcome in OUTCOMES}
        self.retries = Counter("peer_retries", "Questions that went to a second instance.", registry=registry)


class ContentMetrics:
    """What becomes of reads at the cache, and of jobs at the worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        errors = Counter("content_errors", "What went wrong at PostgreSQL.", ["store"], registry=registry)
        self.errors = {store: errors.labels(store) for store in ("postgresql",)}
        lookups = Counter("cache_lookups", "Articles that were looked for in the cache.", ["result"], registry=registry)
        self.lookups = {result: lookups.labels(result) for result in ("hit", "miss", "error")}
        self.not_dropped = Counter("cache_not_dropped", "Written articles that the cache kept.", registry=registry)
        self.worked = Counter("jobs_worked", "Jobs whose effect was committed.", registry=registry)


class FanoutMetrics:
    """Edits on their way between instances."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.published = Counter("fanout_published", "Edits that Redis took for all instances.", registry=registry)
        self.received = Counter("fanout_received", "Edits heard from all instances.", registry=registry)
        self.lost = Counter("fanout_lost", "Edits that could not be published.", registry=registry)


class RoomMetrics:
    """Who is here, and what befell the rooms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.members = Gauge("ws_members", "Members connected to this instance.", registry=registry)
        self.rooms = Gauge("ws_rooms", "Rooms with members on this instance.", registry=registry)
        self.resyncs = Counter("room_resyncs", "Members that had edits which were rolled back.", registry=registry)
        self.missed = Counter("room_missed", "Questions for missed edits.", registry=registry)
        self.overflows = Counter("ws_overflows", "Members that were too slow and were closed.", registry=registry)


class EdgeMetrics:
    """How the edge sees the instances behind it."""

    def __init__(self, registry: CollectorRegistry, upstreams: Iterable[str]) -> None:
        healthy = Gauge("upstream_healthy", "1: requests go to this instance.", ["upstream"], registry=registry)
        self.healthy = {name: healthy.labels(name) for name in upstreams}
        self.retries = Counter("edge_retries", "Requests that went to a second instance.", registry=registry)
        self.limited = Counter("edge_limited", "Requests over a client's rate.", registry=registry)
        self.relays = Gauge("ws_relays", "WebSockets passed through.", registry=registry)
