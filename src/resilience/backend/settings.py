"""The servers' settings, rendered from a stack file: the same on every backend but for hosts and the files' places.

A `Hosts` says by which name members reach each other there. What a backend adds on its command lines is in the
backend's own files.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from resilience.backend.local.place import PROJECT_ROOT
from resilience.spec.content import WORK_QUEUE
from resilience.spec.rabbitmq import METRICS_PORT, PRIORITY_QUEUE, ROOM_EXCHANGE, USER
from resilience.spec.stack import GRPC_PORT, PORTS, Member, Stack

# by themselves: exporters ask Redis and PostgreSQL, and nobody asks what etcd counts
NOT_SCRAPED = frozenset({"redis", "postgresql", "pgbouncer", "etcd"})
DATA_KEEP = {"redis": ["nodes.conf"]}  # who a member is in its cluster, which a loss of data does not change
DRAINED = ("session", "collaboration", "personalization", "content")  # those whose health an edge looks at
DRAIN_S = 2.0  # two failed checks of an edge, one each 0.5 s, and as long again on a busy machine
METRICS_PORTS = {"rabbitmq": METRICS_PORT}  # where a component is scraped, if that is another port than its own
SERVICE_TIMEOUT_S = 1.0  # of one request inside a service: under the clients' 2 s, so that they hear the answer

_OUTBOX_QUEUES = {"session": PRIORITY_QUEUE, "content": WORK_QUEUE}  # where to each service publishes its rows

Hosts = Callable[[Member], str]


def redis_conf(stack: Stack, password: str, address: str = "") -> str:
    """``redis.conf``; without ``address`` the command line has to say which one the member announces."""
    return render("redis/redis.conf.j2", port=PORTS["redis"], address=address, password=password, redis=stack.redis)


def redis_settings(stack: Stack) -> dict[str, str]:
    """The directives that a stack sets, as a server tells them when it is asked; without secrets and addresses."""
    lines = (line.split(maxsplit=1) for line in redis_conf(stack, "").splitlines() if not line.startswith("#"))
    return {line[0]: line[1].strip('"') for line in lines if len(line) == 2}


def service_json(
    stack: Stack, member: Member, hosts: Hosts, password_file: str, own: Mapping[str, Any] | None = None
) -> bytes:
    """The configuration of a service or an edge; see `services.config`. ``own``: what others do not have."""
    config: dict[str, Any] = {
        "name": member.name,
        "host": "0.0.0.0",  # noqa: S104  its own network holds nothing else
        "port": PORTS[member.component],
        "redis": [_endpoint(one, hosts) for one in stack.of("redis")],
        "redis_password_file": password_file,
        "durability": msgspec.to_builtins(stack.durability),
        "session_ttl_s": stack.session_ttl_s,
        "timeout_s": SERVICE_TIMEOUT_S,
        "drain_s": DRAIN_S if member.component in DRAINED else 0.0,
        "upstreams": {name: [_endpoint(one, hosts) for one in stack.of(name)] for name in DRAINED if stack.of(name)},
    }
    return msgspec.json.encode(config | dict(own or {}))


def own_settings(stack: Stack, member: Member, hosts: Hosts, secret_file: Callable[[str], str]) -> dict[str, Any]:
    """What a service is told that works with more than Redis: where PostgreSQL, RabbitMQ and other services are.

    The session service has an outbox, where the stack has what that takes; collaboration the logs of rooms; the content
    service has one for its jobs, and its articles beside them.
    """
    own: dict[str, Any] = {}
    pgbouncers, members = _nearest_first(stack, "pgbouncer", member), stack.of("rabbitmq")
    if (queue := _OUTBOX_QUEUES.get(member.component)) and stack.has_outbox:
        rows = _store("postgresql", pgbouncers, hosts, secret_file)
        own["outbox"] = rows | _store("rabbitmq", members, hosts, secret_file) | {"queue": queue}
    if member.component == "session" and stack.personalization is not None:
        own["grpc_port"] = GRPC_PORT
    if member.component == "personalization" and stack.personalization is not None:
        own["personalization"] = {
            **_store("postgresql", pgbouncers, hosts, secret_file),
            **_store("rabbitmq", members, hosts, secret_file),
            "queue": PRIORITY_QUEUE,
            "replicas": [_endpoint(one, hosts) for one in _beside_replicas(stack, pgbouncers)],
            "sessions": [f"{hosts(one)}:{GRPC_PORT}" for one in stack.of("session")],
            "staleness_bound_s": stack.personalization.staleness_bound_s,
        }
    if member.component == "content" and stack.content is not None:
        own["cache_ttl_s"] = stack.content.cache_ttl_s
    if member.component == "collaboration" and stack.has_rooms_in_postgresql:
        own["rooms"] = _store("postgresql", pgbouncers, hosts, secret_file)
        if stack.has_room_events:
            members = _nearest_first(stack, "rabbitmq", member)
            own["rooms"] |= _store("rabbitmq", members, hosts, secret_file) | {"exchange": ROOM_EXCHANGE}
    return own


def _nearest_first(stack: Stack, component: str, member: Member) -> tuple[Member, ...]:
    """A component's members, the one on this member's node first."""
    return tuple(sorted(stack.of(component), key=lambda one: one.node != member.node))


def _store(store: str, ways: Iterable[Member], hosts: Hosts, secret_file: Callable[[str], str]) -> dict[str, Any]:
    """How a store is reached, by which ways in which order."""
    return {
        store: [_endpoint(one, hosts) for one in ways],
        f"{store}_password_file": secret_file(f"{store}-password"),
        "user": USER,
    }


def _beside_replicas(stack: Stack, pgbouncers: Iterable[Member]) -> list[Member]:
    """The PgBouncers that stand beside PostgreSQL's replicas, as the tier is formed."""
    assert stack.postgresql is not None  # personalization needs it
    nodes = {stack.member(name).node for name in stack.postgresql.replicas}
    return [one for one in pgbouncers if one.node in nodes]


def prometheus_yml(stack: Stack, hosts: Hosts) -> str:
    """``prometheus.yml``: every member is a target, labelled with its name and node."""
    scraped = tuple(name for name in PORTS if name not in NOT_SCRAPED)
    jobs = {job: _targets(stack, job, hosts) for job in scraped if stack.of(job)}
    return render(
        "prometheus/prometheus.yml.j2",
        interval=f"{int(stack.scrape_interval_s * 1000)}ms",
        jobs=jobs,
        redis=_targets(stack, "redis", hosts),
        exporter=_endpoint(stack.of("redis-exporter")[0], hosts),
        postgresql=_targets(stack, "postgresql", hosts),
        postgres_exporter=next((_endpoint(one, hosts) for one in stack.of("postgres-exporter")), ""),
    )


def _targets(stack: Stack, component: str, hosts: Hosts) -> list[dict[str, str]]:
    port = METRICS_PORTS.get(component, PORTS[component])
    return [{"address": f"{hosts(one)}:{port}", "member": one.name, "node": one.node} for one in stack.of(component)]


def exporter_passwords(stack: Stack, hosts: Hosts, password: str) -> bytes:
    """The Redis exporter's password file."""
    return msgspec.json.encode({f"redis://{_endpoint(one, hosts)}": password for one in stack.of("redis")})


def _endpoint(member: Member, hosts: Hosts) -> str:
    return f"{hosts(member)}:{PORTS[member.component]}"


def render(template: str, **values: Any) -> str:
    """A template of ``stacks/``, filled in."""
    environment = jinja2.Environment(  # noqa: S701  the output is no HTML
        loader=jinja2.FileSystemLoader(Path(PROJECT_ROOT) / "stacks"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)
