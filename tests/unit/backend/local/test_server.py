"""Which program a service's members run, and what it is told."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.server import Site, prepare
from resilience.spec.read import read_stack
from resilience.spec.stack import Collaboration, Programs


@pytest.mark.parametrize(
    ("programs", "expect"),
    [(Programs(), "services.session"), (Programs(session="other.session"), "other.session")],
    ids=["the reference service", "another one"],
)
def test_a_service_is_the_program_that_the_stack_names(programs: Programs, expect: str, tmp_path: Path) -> None:
    stack = msgspec.structs.replace(read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml"), programs=programs)
    site = Site(stack=stack, addresses={}, password="", password_file=tmp_path / "password")
    pod: Any = SimpleNamespace(member=stack.member("session-0"), config=tmp_path)
    command = prepare(pod, site)
    assert command[1:] == ("-m", expect, str(tmp_path / "service.json"))


def told(stack_name: str, member: str, folder: Path, collaboration: Collaboration | None = None) -> dict[str, Any]:
    """What a service is told in a stack."""
    stack = read_stack(PROJECT_ROOT, f"stacks/local/{stack_name}.yaml")
    stack = msgspec.structs.replace(stack, collaboration=collaboration)
    site = Site(stack=stack, addresses={}, password="", password_file=folder / "password", secret=str)
    pod: Any = SimpleNamespace(member=stack.member(member), config=folder)
    prepare(pod, site)
    found: dict[str, Any] = json.loads((folder / "service.json").read_text())
    return found


def test_the_session_service_has_an_outbox_where_its_stack_has_both_stores(tmp_path: Path) -> None:
    config = told("whole", "session-1", tmp_path)
    outbox = config.pop("outbox")
    assert outbox["postgresql"] == ["pgbouncer-1:6432", "pgbouncer-0:6432", "pgbouncer-2:6432"], "its own node's first"
    assert outbox["rabbitmq"] == ["rabbitmq-0:5672", "rabbitmq-1:5672", "rabbitmq-2:5672"]
    file = Path(outbox["rabbitmq_password_file"])
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("rabbitmq-password", 0o600)
    assert config == told("harmonyflow", "session-1", tmp_path), "nothing else is new"


def test_the_personalization_service_is_told_whom_it_asks_and_what_it_promises(tmp_path: Path) -> None:
    own = told("personalization", "personalization-0", tmp_path)["personalization"]
    assert own["postgresql"] == ["pgbouncer-2:6432", "pgbouncer-0:6432", "pgbouncer-1:6432"], "its own node's first"
    assert own["replicas"] == ["pgbouncer-2:6432", "pgbouncer-1:6432"], "not the one in front of the primary"
    assert own["sessions"] == ["session-0:8081", "session-1:8081"]
    assert (own["queue"], own["staleness_bound_s"]) == ("session-events", 2.0)
    assert Path(own["rabbitmq_password_file"]).read_text() == "rabbitmq-password"


def test_where_it_stands_sessions_can_be_asked_about_and_edges_lead_to_it(tmp_path: Path) -> None:
    session, without = told("personalization", "session-0", tmp_path), told("whole", "session-0", tmp_path)
    assert session.pop("grpc_port") == 8081
    upstreams = session.pop("upstreams")
    assert upstreams.pop("personalization") == ["personalization-0:8080", "personalization-1:8080"]
    assert upstreams == without.pop("upstreams")
    assert session == without, "nothing else is new"


def test_the_content_service_has_one_for_its_jobs_and_edges_lead_to_it(tmp_path: Path) -> None:
    config = told("content", "content-1", tmp_path)
    assert (config["outbox"]["queue"], config["cache_ttl_s"], config["drain_s"]) == ("content-processing", 2.0, 2.0)
    assert config["upstreams"].pop("content") == ["content-0:8080", "content-1:8080"]
    edge = told("content", "edge-0", tmp_path)
    assert edge["upstreams"].pop("content") == ["content-0:8080", "content-1:8080"]
    assert edge == told("whole", "edge-0", tmp_path), "nothing else is new"


@pytest.mark.parametrize(
    ("stack_name", "member"),
    [
        ("harmonyflow", "session-0"),
        ("postgresql", "session-0"),
        ("rabbitmq", "session-0"),
        ("whole", "collaboration-0"),
    ],
)
def test_nobody_else_has_one(stack_name: str, member: str, tmp_path: Path) -> None:
    assert "outbox" not in told(stack_name, member, tmp_path)


def test_the_collaboration_service_has_its_rooms_where_the_stack_says(tmp_path: Path) -> None:
    config = told("whole", "collaboration-0", tmp_path, Collaboration(log="postgresql"))
    rooms = config.pop("rooms")
    assert rooms["postgresql"] == ["pgbouncer-1:6432", "pgbouncer-0:6432", "pgbouncer-2:6432"], "its own node's first"
    assert Path(rooms["postgresql_password_file"]).read_text() == "postgresql-password"
    assert "rabbitmq" not in rooms
    by_events = told("whole", "collaboration-0", tmp_path, Collaboration(log="postgresql", fanout="rabbitmq"))["rooms"]
    assert by_events["rabbitmq"] == ["rabbitmq-1:5672", "rabbitmq-0:5672", "rabbitmq-2:5672"], "likewise"
    assert Path(by_events["rabbitmq_password_file"]).read_text() == "rabbitmq-password"
    assert by_events["exchange"] == "collaboration-sync"
    for in_redis in (None, Collaboration()):
        assert told("whole", "collaboration-0", tmp_path, in_redis) == config, "nothing else is new"
    assert "rooms" not in told("whole", "session-0", tmp_path, Collaboration(log="postgresql"))
