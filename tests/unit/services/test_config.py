"""Configuration files, right and wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.config import ConfigError, read_config

GOOD: dict[str, Any] = {
    "name": "session-0",
    "host": "0.0.0.0",
    "port": 8080,
    "redis": ["redis-cluster-0:6379"],
    "durability": {"mode": "wait", "replicas": 1, "timeout_ms": 1000},
    "session_ttl_s": 604800,
    "timeout_s": 1.0,
    "upstreams": {"session": ["session-0:8080"]},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(GOOD | changes))
    return path


def test_a_good_file(tmp_path: Path):
    secret = tmp_path / "password"
    secret.write_text("pass word\n")
    config = read_config(write(tmp_path, redis_password_file=str(secret)))
    assert (config.durability.mode, config.durability.timeout_ms, config.timeout_s) == ("wait", 1000, 1.0)
    assert config.redis_password() == "pass word"
    assert read_config(write(tmp_path)).redis_password() is None


def test_a_file_with_rooms_in_postgresql(tmp_path: Path):
    rooms = {"postgresql": ["pgbouncer-0:6432"], "postgresql_password_file": "/run/postgresql"}
    config = read_config(write(tmp_path, rooms=rooms))
    assert config.rooms is not None
    assert (config.rooms.postgresql, config.rooms.user) == (("pgbouncer-0:6432",), "harmonyflow")
    assert config.rooms.rabbitmq == ()
    with pytest.raises(ConfigError, match="expected host:port"):
        read_config(write(tmp_path, rooms=rooms | {"rabbitmq": ["rabbitmq-0"]}))
    with pytest.raises(ConfigError, match="expected host:port"):
        read_config(write(tmp_path, rooms=rooms | {"postgresql": ["pgbouncer-0"]}))
    assert read_config(write(tmp_path)).rooms is None


OUTBOX: dict[str, Any] = {
    "postgresql": ["pgbouncer-0:6432"],
    "postgresql_password_file": "/run/postgresql",
    "rabbitmq": ["rabbitmq-0:5672"],
    "rabbitmq_password_file": "/run/rabbitmq",
}


def test_a_file_with_an_outbox(tmp_path: Path):
    outbox = read_config(write(tmp_path, outbox=OUTBOX)).outbox
    assert outbox is not None
    assert (outbox.postgresql, outbox.user, outbox.queue) == (("pgbouncer-0:6432",), "harmonyflow", "session-events")
    assert read_config(write(tmp_path)).outbox is None


PERSONALIZATION: dict[str, Any] = OUTBOX | {"replicas": ["pgbouncer-1:6432"], "sessions": ["session-0:8081"]}


def test_a_file_of_the_personalization_service(tmp_path: Path):
    own = read_config(write(tmp_path, personalization=PERSONALIZATION)).personalization
    assert own is not None
    assert (own.replicas, own.staleness_bound_s, own.queue) == (("pgbouncer-1:6432",), 2.0, "session-events")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"personalization": PERSONALIZATION | {"staleness_bound_s": 0.1}}, "staleness_bound_s"),
        ({"personalization": PERSONALIZATION | {"sessions": []}}, "personalization.sessions"),
        ({"personalization": PERSONALIZATION | {"replicas": ["pgbouncer-1"]}}, "expected host:port"),
        ({"grpc_port": 70_000}, "grpc_port"),
        ({"outbox": OUTBOX | {"postgresql": []}}, "outbox.postgresql"),
        ({"outbox": OUTBOX | {"rabbitmq": ["rabbitmq-0"]}}, "expected host:port"),
        ({"outbox": {"postgresql": ["pgbouncer-0:6432"]}}, "postgresql_password_file"),
        ({"port": "8080"}, "port"),
        ({"port": 70_000}, "port"),
        ({"prot": 1}, "prot"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"drain_s": -1}, "drain_s"),
        ({"durability": {"mode": "sync"}}, "mode"),
        ({"durability": {"mode": "wait", "replicas": 0}}, "replicas"),
        ({"redis": ["redis-cluster-0"]}, "expected host:port"),
        ({"upstreams": {"session": [":80"]}}, "expected host:port"),
        ({"name": "Session 0"}, "name"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(tmp_path: Path, changes: dict[str, Any], says: str):
    with pytest.raises(ConfigError) as caught:
        read_config(write(tmp_path, **changes))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "nothing.json")
    with pytest.raises(ConfigError, match="No such file"):
        read_config(write(tmp_path, redis_password_file="/nowhere/password")).redis_password()
