"""The configuration of one service: a JSON file, read once at the start."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65_535)]  # 0: the system chooses
Seconds = Annotated[float, Meta(gt=0, le=60)]


class Durability(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an acknowledgement means: on the primary (`async`), or on this many replicas too (`wait`)."""

    mode: Literal["async", "wait"] = "async"
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 1_000


class Rate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one client of the edge may ask for: requests per second, and how many at once after a pause."""

    per_s: Annotated[float, Meta(gt=0)] = 500.0
    burst: Annotated[float, Meta(ge=1)] = 1_000.0


class Outbox(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a service keeps what it is to publish until RabbitMQ has it, and where it publishes that.

    Of the session service that are the ends of sessions; the content service keeps its articles there, too.

    `postgresql` are PgBouncers, which lead to whoever takes writes.
    """

    postgresql: Annotated[tuple[str, ...], Meta(min_length=1)]
    postgresql_password_file: str
    rabbitmq: Annotated[tuple[str, ...], Meta(min_length=1)]
    rabbitmq_password_file: str
    user: str = "harmonyflow"  # of both, and the name of the database and the vhost
    queue: str = "session-events"


class Personalization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the personalization service keeps profiles, whom it reads them from, and whose events it consumes.

    `postgresql` are PgBouncers, which lead to whoever takes writes; `replicas` are those that lead to the member beside
    them, as the database `beside`, in the order in which they are asked.
    """

    postgresql: Annotated[tuple[str, ...], Meta(min_length=1)]
    replicas: tuple[str, ...]
    postgresql_password_file: str
    rabbitmq: Annotated[tuple[str, ...], Meta(min_length=1)]
    rabbitmq_password_file: str
    sessions: Annotated[tuple[str, ...], Meta(min_length=1)]  # the session service's gRPC ports
    staleness_bound_s: Annotated[float, Meta(ge=0.5, le=3_600)] = 2.0  # no suggestion is of a profile older than this
    user: str = "harmonyflow"  # of both, and the name of the database and the vhost
    queue: str = "session-events"


class Rooms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the collaboration service keeps the logs of rooms: PgBouncers, which lead to whoever takes writes.

    Where RabbitMQ is named, an edit is an event that goes to all instances by its exchange.
    """

    postgresql: Annotated[tuple[str, ...], Meta(min_length=1)]
    postgresql_password_file: str
    rabbitmq: tuple[str, ...] = ()  # none: edits go to all instances by Redis
    rabbitmq_password_file: str = ""
    user: str = "harmonyflow"  # of both, and the name of the database and the vhost
    exchange: str = "collaboration-sync"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One service's configuration; `redis` is for the services behind the edge, `upstreams` and `rate` for the edge."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
    port: Port
    host: str = "0.0.0.0"  # noqa: S104 - a member's own namespace holds nothing else
    redis: tuple[str, ...] = ()
    redis_password_file: str | None = None
    durability: Durability = Durability()
    session_ttl_s: Annotated[int, Meta(ge=1)] = 604_800
    timeout_s: Seconds = 1.0
    drain_s: Annotated[float, Meta(ge=0, le=60)] = 0.0  # unfit, but still serving, after it was told to end
    upstreams: dict[str, tuple[str, ...]] = {}
    rate: Rate = Rate()
    grpc_port: Port | None = None  # where other services ask; None: nobody does
    personalization: Personalization | None = None  # of the personalization service, which has to have it
    outbox: Outbox | None = None  # of the session service; None: nobody is told of the ends of sessions
    rooms: Rooms | None = None  # of the collaboration service; None: the logs of rooms are in Redis
    cache_ttl_s: Seconds = 2.0  # of the content service: how much older than the last write a read may be

    def redis_password(self) -> str | None:
        """The password in the file that the configuration names. Raises `ConfigError`."""
        return None if self.redis_password_file is None else password_in(self.redis_password_file) or None


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line for a person."""


def password_in(file: str) -> str:
    """The password in a file. Raises `ConfigError`."""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error


def address_from_text(text: str) -> tuple[str, int]:
    """`host:port` as a pair. Raises `ConfigError`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"{text!r}: expected host:port")
    return host, int(port)


def read_config(path: Path) -> Config:
    """The configuration in a file. Raises `ConfigError`."""
    try:
        content: Any = path.read_bytes()
        config = msgspec.json.decode(content, type=Config)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    outbox = (*config.outbox.postgresql, *config.outbox.rabbitmq) if config.outbox else ()
    rooms = (*config.rooms.postgresql, *config.rooms.rabbitmq) if config.rooms else ()
    own = config.personalization
    profiles = (*own.postgresql, *own.replicas, *own.rabbitmq, *own.sessions) if own else ()
    upstreams = (one for many in config.upstreams.values() for one in many)
    for address in (*config.redis, *outbox, *rooms, *profiles, *upstreams):
        address_from_text(address)
    return config
