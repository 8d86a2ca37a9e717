"""The personalization service, with real servers: what an event does, and of what, and how old, a suggestion is made.

As few members as a tier can have are enough. The replica's PgBouncer leads to it, and the primary's to the primary.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, AuditLine, EffectRead, ProfileRead
from resilience.history.writer import Writer
from resilience.spec.read import read_stack
from resilience.spec.stack import PORTS, Shard, Stack
from resilience.stack import postgresql, rabbitmq, redis_cluster, service
from resilience.stack.http_link import HttpAnswer, http_ask
from resilience.stack.profile_audit import audit_profiles, wait_consumed
from tests.component.local_stack import brought_up
from tests.component.postgresql_tier import PRIMARY, STANDBY, asked, wait_for
from tests.component.rabbitmq_members import eventually, publish, take, texts, within

pytestmark = pytest.mark.component
QUEUE, BROKER, EDGE = "session-events", "rabbitmq-0", "edge-0"
SESSIONS, PEOPLE = ("session-0", "session-1"), ("personalization-0", "personalization-1")
REDIS = ("redis-cluster-0", "redis-cluster-1", "redis-cluster-2")
NEEDED = {*REDIS, PRIMARY, STANDBY, "pgbouncer-0", "pgbouncer-1", BROKER, EDGE, *SESSIONS, *PEOPLE}
BOUND_S = 2.0


def small_stack() -> Stack:
    """The shipped stack with few members."""
    stack = read_stack(PROJECT_ROOT, "stacks/local/personalization.yaml")
    assert stack.postgresql is not None
    assert stack.personalization is not None
    assert stack.personalization.staleness_bound_s == BOUND_S
    return replace(
        stack,
        members=tuple(member for member in stack.members if member.name in NEEDED),
        shards=tuple(Shard(primary=shard.primary, replicas=()) for shard in stack.shards),
        postgresql=replace(stack.postgresql, replicas=(STANDBY,)),
        restart_delay_s=0.2,
    )


@pytest.fixture(scope="module")
def platform(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnedLocalPlatform]:
    with brought_up(small_stack(), image, tmp_path_factory.mktemp("members")) as owned:
        redis_cluster.form(owned, within())
        postgresql.wait_ready(owned, within())
        rabbitmq.form(owned, within())
        service.wait_ready(owned, within())
        eventually(lambda: suggested(owned, "nobody"), lambda answer: answer.status == 404)  # it finds the sessions
        wait_for("the replica has seen a beat", lambda: bool(beats(owned)))
        yield owned


def beats(platform: OwnedLocalPlatform) -> Any:
    if asked(platform, STANDBY, "SELECT to_regclass('heartbeat.beat')") == [(None,)]:
        return []
    return asked(platform, STANDBY, "SELECT at FROM heartbeat.beat")


def tell(platform: OwnedLocalPlatform, member: str, path: str, **payload: Any) -> HttpAnswer:
    return http_ask(platform.state(member), path, method="POST", payload=payload, timeout_s=5.0, port=PORTS["session"])


def suggested(platform: OwnedLocalPlatform, session: str, member: str = PEOPLE[0]) -> HttpAnswer:
    return http_ask(platform.state(member), f"/suggestions/{session}", timeout_s=5.0, port=PORTS["personalization"])


def cares(platform: OwnedLocalPlatform, session: str, interest: str, op: str, member: str = PEOPLE[0]) -> HttpAnswer:
    state, payload = platform.state(member), {"op": op, "interest": interest}
    return http_ask(
        state, f"/profiles/{session}", method="PUT", payload=payload, timeout_s=5.0, port=PORTS["personalization"]
    )


def began(platform: OwnedLocalPlatform, session: str, person: str | None) -> str:
    more = {} if person is None else {"person": person}
    answer = tell(platform, SESSIONS[0], "/sessions", session=session, op=f"{session}-c", data="", **more)
    assert answer.status == 201, answer
    return session


def ended(platform: OwnedLocalPlatform, session: str) -> str:
    answer = tell(platform, SESSIONS[1], f"/sessions/{session}/end", op=f"{session}-e")
    assert answer.status == 200, answer
    return str(answer.json()["event"])


def events(platform: OwnedLocalPlatform) -> dict[Any, Any]:
    """Whose each event was that had its effect."""
    return {row[0]: row[1] for row in asked(platform, PRIMARY, "SELECT event, person FROM profile_event")}


def profile(platform: OwnedLocalPlatform, person: str) -> tuple[int, int]:
    """The version of a profile, and how many sessions it knows of."""
    ((version, sessions),) = asked(
        platform, PRIMARY, f"SELECT version, sessions FROM profile WHERE person = '{person}'"
    )
    return int(version or 0), int(sessions or 0)


def test_an_end_changes_the_profile_of_whose_session_it_was_once(platform: OwnedLocalPlatform) -> None:
    first = ended(platform, began(platform, "s-anna-1", "anna"))
    wait_for("it had its effect", lambda: first in events(platform))
    assert events(platform)[first] == "anna"
    assert profile(platform, "anna") == (1, 1)
    publish(platform, BROKER, QUEUE, first)  # it comes again, as from a relay that was killed before its mark
    second = ended(platform, began(platform, "s-anna-2", "anna"))
    wait_for("both had theirs", lambda: second in events(platform))
    wait_for("nothing is left", lambda: not texts(take(platform, BROKER, QUEUE, "ack_requeue_true")))
    assert profile(platform, "anna") == (2, 2)


def test_of_an_end_that_is_nobodys_it_is_known_that_it_came(platform: OwnedLocalPlatform) -> None:
    nobodys = ended(platform, began(platform, "s-nobody", None))
    unknown = "session-ended/s-that-never-was/op"
    publish(platform, BROKER, QUEUE, unknown)
    publish(platform, BROKER, QUEUE, "no event")
    wait_for("they came", lambda: {nobodys, unknown} <= events(platform).keys())
    assert (events(platform)[nobodys], events(platform)[unknown]) == (None, None)
    assert texts(eventually(lambda: take(platform, BROKER, f"{QUEUE}.dead"), bool)) == ["no event"]
    answer = suggested(platform, "s-nobody")
    assert (answer.status, answer.json()) == (404, {"error": "nobodys", "outcome": "fail"})


def test_a_suggestion_is_read_from_a_replica_and_says_how_old_it_may_be(platform: OwnedLocalPlatform) -> None:
    began(platform, "s-bert", "bert")
    answer = suggested(platform, "s-bert")
    assert answer.status == 200, answer
    found = answer.json()
    assert (found["person"], found["version"], found["source"], found["bound_s"]) == ("bert", 0, "replica", BOUND_S)
    assert 0 <= found["lag_s"] <= BOUND_S
    assert len(found["suggestions"]) == 3
    assert cares(platform, "s-bert", "walking", "op-1").json() == {"person": "bert", "version": 1}
    assert cares(platform, "s-bert", "walking", "op-1", PEOPLE[1]).json()["version"] == 1, (
        "repeated, and not done twice"
    )
    assert cares(platform, "s-bert", "resting", "op-2").json()["version"] == 2
    newest = eventually(lambda: suggested(platform, "s-bert").json(), lambda said: said["version"] == 2)
    assert newest["suggestions"][0] == "resting"


@contextmanager
def standing_behind(platform: OwnedLocalPlatform) -> Iterator[None]:
    """The replica replays nothing, and goes on answering."""
    asked(platform, STANDBY, "SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        asked(platform, STANDBY, "SELECT pg_wal_replay_resume()")


def test_no_suggestion_is_staler_than_the_bound(platform: OwnedLocalPlatform) -> None:
    """A replica that is behind is read as long as the bound allows it, then the primary is; without it nobody is."""
    began(platform, "s-carl", "carl")
    with standing_behind(platform):
        assert cares(platform, "s-carl", "walking", "op-1").json()["version"] == 1
        written = time.monotonic()
        while (found := suggested(platform, "s-carl").json())["source"] == "replica":
            assert found["version"] == 0
            assert time.monotonic() - written < BOUND_S + 1.0
        assert (found["source"], found["version"], found["lag_s"]) == ("primary", 1, 0.0)
        servers = [server_pid(platform, PRIMARY), *children(server_pid(platform, PRIMARY))]
        for pid in servers:
            os.kill(pid, signal.SIGSTOP)
        try:
            answer = suggested(platform, "s-carl")
            assert (answer.status, answer.json()["error"], answer.json()["outcome"]) == (503, "stale", "fail")
        finally:
            for pid in servers:
                os.kill(pid, signal.SIGCONT)
    wait_for("the replica is read again", lambda: suggested(platform, "s-carl").json().get("source") == "replica")
    assert suggested(platform, "s-carl").json()["version"] == 1


def server_pid(platform: OwnedLocalPlatform, member: str) -> int:
    return int(platform.state(member).handle["server_pid"])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_a_killed_instance_had_in_hand_has_its_effect_once(platform: OwnedLocalPlatform) -> None:
    """The effects wait for the session service, which stands still; then one of those who hold them is killed."""
    sessions = [began(platform, f"s-dora-{number}", "dora") for number in range(6)]
    ends = {ended(platform, session) for session in sessions[:3]}
    wait_for("the first are known", lambda: ends <= events(platform).keys())
    stopped = [server_pid(platform, name) for name in SESSIONS]
    for session in sessions[3:]:
        ends.add(f"session-ended/{session}/{session}-e")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        for session in sessions[3:]:
            publish(platform, BROKER, QUEUE, f"session-ended/{session}/{session}-e")
        before = platform.state(PEOPLE[0])
        time.sleep(0.5)
        os.kill(server_pid(platform, PEOPLE[0]), signal.SIGKILL)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    wait_for("all had their effect", lambda: ends <= events(platform).keys())
    assert profile(platform, "dora") == (6, 6)
    wait_for("it runs again", lambda: platform.state(PEOPLE[0]).restarts == before.restarts + 1)
    service.wait_ready(platform, within())


def test_effects_and_profiles_are_read_back(platform: OwnedLocalPlatform, tmp_path: Path) -> None:
    """As the primary has them, once what was confirmed has come."""
    ends = [ended(platform, began(platform, f"s-gina-{number}", "gina")) for number in range(3)]
    wait_consumed(platform, deadline=within())
    with Writer(tmp_path / "audit.jsonl") as writer:
        audit_profiles(platform, writer, clock=RunClock.starting_now(), deadline=within())
    lines = msgspec.json.Decoder(AuditLine).decode_lines((tmp_path / "audit.jsonl").read_bytes())
    effects = [line for line in lines if isinstance(line, EffectRead)]
    assert [line.event for line in effects if line.person == "gina"] == ends
    assert {line.event: line.person for line in effects} == {
        event: person or "" for event, person in events(platform).items()
    }
    assert ProfileRead("gina", 3, 3, PRIMARY, 1) in lines
    (done,) = [line for line in lines if isinstance(line, AuditDone)]
    assert (done.kind, done.count) == ("profiles", len(lines) - 1)
    asked(platform, PRIMARY, f"DELETE FROM profile_event WHERE event = '{ends[0]}'")
    with pytest.raises(StackError, match="1 confirmed events have had no effect"):
        wait_consumed(platform, deadline=within(0.3))


def test_edges_lead_to_it(platform: OwnedLocalPlatform) -> None:
    began(platform, "s-fred", "fred")
    eventually(lambda: suggested(platform, "s-fred", EDGE), lambda answer: answer.status == 200)
    assert cares(platform, "s-fred", "resting", "op-1", EDGE).json() == {"person": "fred", "version": 1}
    assert suggested(platform, "s-unknown", EDGE).json()["error"] == "missing"


def test_whose_session_it_is_another_instance_knows(platform: OwnedLocalPlatform) -> None:
    began(platform, "s-emil", "emil")
    pid = server_pid(platform, SESSIONS[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = suggested(platform, "s-emil")
        assert (answer.status, answer.json()["person"]) == (200, "emil")
    finally:
        os.kill(pid, signal.SIGCONT)
