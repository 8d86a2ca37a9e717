"""The session service against a real Redis Cluster."""

import asyncio
import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client import CollectorRegistry

from services.metric import PeerMetrics
from services.rpc import Peers
from services.session_rpc import WHOSE, Session
from services.web import Refusal
from tests.component.redis_on_loopback import Cluster, Server, wait_until
from tests.component.service_process import Service, free_port, redis_settings, service

pytestmark = pytest.mark.component
REDIS_PORT = 17_700  # of the first of its servers, see `conftest.cluster`


@pytest.fixture(scope="module")
def async_session(cluster: Cluster, folder: Path) -> Iterator[Service]:
    with service(folder, "session", **redis_settings(cluster)) as running:
        yield running


@pytest.fixture(scope="module")
def wait_session(cluster: Cluster, folder: Path) -> Iterator[Service]:
    with service(folder, "session", **redis_settings(cluster, "wait")) as running:
        yield running


def call(running: Service, method: str, path: str, **content: Any) -> requests.Response:
    return requests.request(method, running.url + path, json=content or None, timeout=3)


def create(running: Service, session: str) -> requests.Response:
    return call(running, "POST", "/sessions", session=session, op=f"{session}-create", data="first")


def log_of(cluster: Cluster, session: str) -> list[str]:
    key = f"session-log:{{{session}}}"
    return list(cluster.primary_of(key).client().lrange(key, 0, -1))


def breaks_in_chain(rows: list[str]) -> list[int]:
    """The versions whose row does not carry the hash of the row before it."""
    found = []
    for before, row in zip(["", *rows], rows, strict=False):
        expected = hashlib.sha1(before.encode()).hexdigest()[:16] if before else ""
        version, _, hashed = json.loads(row)
        if hashed != expected:
            found.append(version)
    return found


def test_a_journey(cluster: Cluster, async_session: Service):
    assert create(async_session, "s-1").json() == {"session": "s-1", "version": 1}
    update = call(async_session, "PUT", "/sessions/s-1", op="o2", version=1, data='a "quoted" text')
    assert (update.status_code, update.json()) == (200, {"version": 2})
    assert call(async_session, "POST", "/sessions/s-1/heartbeat", op="o3").json() == {"version": 3}
    read = call(async_session, "GET", "/sessions/s-1")
    assert read.json() == {"session": "s-1", "version": 3, "state": "live", "data": 'a "quoted" text'}
    assert call(async_session, "POST", "/sessions/s-1/end", op="o4").json() == {"version": 4}
    assert call(async_session, "GET", "/sessions/s-1").json()["state"] == "ended"
    after = call(async_session, "POST", "/sessions/s-1/heartbeat", op="o5")
    assert (after.status_code, after.json()["error"], after.headers["X-Outcome"]) == (410, "ended", "fail")
    assert [json.loads(row)[:2] for row in log_of(cluster, "s-1")] == [
        [1, "s-1-create"],
        [2, "o2"],
        [3, "o3"],
        [4, "o4"],
    ]


def test_state_and_log_live_for_the_same_time(cluster: Cluster, async_session: Service):
    create(async_session, "s-ttl")
    client = cluster.primary_of("{s-ttl}").client()
    for key in ("session:{s-ttl}", "session-log:{s-ttl}"):
        client.expire(key, 10)
    call(async_session, "POST", "/sessions/s-ttl/heartbeat", op="beat")
    assert {client.ttl(key) for key in ("session:{s-ttl}", "session-log:{s-ttl}")} <= {604_800, 604_799}


def test_the_chain_of_a_log_can_be_followed(cluster: Cluster, async_session: Service):
    create(async_session, "s-chain")
    for number in range(70):
        call(async_session, "POST", "/sessions/s-chain/heartbeat", op=f"beat-{number}")
    rows = log_of(cluster, "s-chain")
    assert len(rows) == 64  # capped: the first row's predecessor is gone
    assert breaks_in_chain(rows) == [json.loads(rows[0])[0]]
    assert breaks_in_chain([*rows[:30], *rows[31:]])[1:] == [json.loads(rows[31])[0]]


def test_only_one_of_two_updates_of_a_version_wins(async_session: Service):
    create(async_session, "s-cas")
    first = call(async_session, "PUT", "/sessions/s-cas", op="a", version=1, data="a")
    second = call(async_session, "PUT", "/sessions/s-cas", op="b", version=1, data="b")
    assert (first.status_code, second.status_code) == (200, 409)
    assert second.json() == {"error": "conflict", "outcome": "fail", "version": 2}
    assert call(async_session, "GET", "/sessions/s-cas").json()["data"] == "a"


def test_an_op_is_applied_once(cluster: Cluster, async_session: Service):
    assert [create(async_session, "s-op").status_code for _ in range(2)] == [201, 201]
    answers = [call(async_session, "PUT", "/sessions/s-op", op="u", version=1, data="x").json() for _ in range(3)]
    assert answers == [{"version": 2}] * 3
    assert call(async_session, "PUT", "/sessions/s-op", op="other", version=2, data="y").json() == {"version": 3}
    assert call(async_session, "PUT", "/sessions/s-op", op="u", version=1, data="x").json() == {"version": 2}
    assert call(async_session, "GET", "/sessions/s-op").json()["data"] == "y"
    assert len(log_of(cluster, "s-op")) == 3


def test_a_session_is_created_once(async_session: Service):
    create(async_session, "s-once")
    other = call(async_session, "POST", "/sessions", session="s-once", op="another", data="")
    assert (other.status_code, other.json()["error"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/sessions", b"{", 400),
        ("POST", "/sessions", b"", 400),
        ("POST", "/sessions", b"\xff\xfe", 400),
        ("POST", "/sessions", b"[]", 400),
        ("POST", "/sessions", b'{"session":"a","op":"b","data":1}', 400),
        ("POST", "/sessions", b'{"session":"a}{b","op":"b","data":""}', 400),
        ("POST", "/sessions", b'{"session":"a\\n","op":"b","data":""}', 400),
        ("POST", "/sessions", b'{"session":"a","op":"b\\u0000","data":""}', 400),
        ("POST", "/sessions", b'{"session":"' + b"a" * 200 + b'","op":"b","data":""}', 400),
        ("POST", "/sessions", b'{"session":"a","op":"b","data":"' + b"x" * 20_000 + b'"}', 400),
        ("POST", "/sessions", b" " * 100_000, 400),
        ("PUT", "/sessions/s-1", b'{"op":"x","version":"1","data":""}', 400),
        ("PUT", "/sessions/s-1", b'{"op":"x","version":-1,"data":""}', 400),
        ("GET", "/sessions/a%7Bb%7D", b"", 400),
        ("GET", "/sessions/a%0a", b"", 400),
        ("GET", "/sessions/nobody", b"", 404),
        ("POST", "/sessions/nobody/heartbeat", b'{"op":"x"}', 404),
        ("DELETE", "/sessions/s-1", b"", 405),
        ("GET", "/nothing", b"", 404),
    ],
)
def test_bad_input_is_answered_in_one_line(async_session: Service, method: str, path: str, body: bytes, status: int):
    answer = requests.request(method, async_session.url + path, data=body, timeout=3)
    assert (answer.status_code, answer.headers["X-Outcome"], answer.json()["outcome"]) == (status, "fail", "fail")
    assert b"\n" not in answer.content
    assert b"Traceback" not in answer.content


def test_every_label_is_there_from_the_start(async_session: Service):
    assert async_session.metric('redis_errors_total{reason="not-durable"}') == 0
    assert async_session.metric('service_requests_total{outcome="unknown",route="end"}') == 0


def test_scripts_are_sent_again_to_a_server_that_lost_them(cluster: Cluster, async_session: Service):
    assert create(async_session, "s-script").status_code == 201
    cluster.primary_of("{s-script}").client().script_flush()
    assert call(async_session, "POST", "/sessions/s-script/heartbeat", op="x").json() == {"version": 2}


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_write_that_no_replica_has_is_not_acknowledged(
    cluster: Cluster, async_session: Service, wait_session: Service, how: signal.Signals
):
    name = f"s-durable-{how.name}"
    assert create(wait_session, name).status_code == 201
    replica = cluster.replica_of(f"{{{name}}}")
    replica.send(how)
    try:
        started = time.monotonic()
        refused = call(wait_session, "POST", f"/sessions/{name}/heartbeat", op="x")
        took_s = time.monotonic() - started
        relaxed = call(async_session, "POST", f"/sessions/{name}/heartbeat", op="y")
    finally:
        back(cluster, replica, how)
    assert (refused.status_code, refused.json()) == (503, {"error": "not-durable", "outcome": "unknown"})
    assert refused.headers["X-Outcome"] == "unknown"
    assert took_s < 1.1
    assert relaxed.json() == {"version": 3}  # async acknowledges it; and the refused one had been done
    assert wait_session.metric('redis_errors_total{reason="not-durable"}') >= 1


def test_an_op_that_was_done_before_is_durable_before_it_is_acknowledged_again(cluster: Cluster, wait_session: Service):
    create(wait_session, "s-again")
    replica = cluster.replica_of("{s-again}")
    replica.send(signal.SIGSTOP)
    try:
        answers = [call(wait_session, "POST", "/sessions/s-again/heartbeat", op="x")]
        # On a connection that has written nothing yet, WAIT would be content with any replica that is connected.
        cluster.primary_of("{s-again}").client().client_kill_filter(_type="normal", skipme=True)
        answers += [call(wait_session, "POST", "/sessions/s-again/heartbeat", op="x")]
    finally:
        back(cluster, replica, signal.SIGSTOP)
    assert [answer.json()["error"] for answer in answers] == ["not-durable"] * 2
    assert call(wait_session, "POST", "/sessions/s-again/heartbeat", op="x").json() == {"version": 2}


def back(cluster: Cluster, server: Server, how: signal.Signals) -> None:
    if how is signal.SIGSTOP:
        server.send(signal.SIGCONT)
    else:
        server.kill()
        server.start()
    wait_until(cluster.whole, "cluster is whole again")


def test_wait_follows_the_write_on_its_connection_outside_multi(cluster: Cluster, wait_session: Service):
    server = cluster.primary_of("{s-same}")
    with server.client().monitor() as monitor:
        creating = threading.Thread(target=create, args=(wait_session, "s-same"))
        creating.start()
        heard = [monitor.next_command() for _ in range(3)]
        while "WAIT" not in heard[-1]["command"].upper():
            heard.append(monitor.next_command())
        creating.join()
    words = [(one["command"].split()[0].upper(), one["client_port"]) for one in heard if one["client_type"] != "lua"]
    script = next(i for i, (word, _) in enumerate(words) if word.startswith("EVAL"))
    assert words[-1][0] == "WAIT"
    assert words[-1][1] == words[script][1]
    assert "MULTI" not in {word for word, _ in words}


def test_a_moved_slot_is_followed_within_the_request(cluster: Cluster, async_session: Service):
    create(async_session, "s-moved")
    before = cluster.primary_of("{s-moved}")
    cluster.replica_of("{s-moved}").client().execute_command("CLUSTER", "FAILOVER")
    wait_until(lambda: cluster.primary_of("{s-moved}") is not before, "replica was promoted")
    answer = call(async_session, "POST", "/sessions/s-moved/heartbeat", op="x")
    assert (answer.status_code, answer.json()) == (200, {"version": 2})
    wait_until(cluster.whole, "cluster is whole again")


def test_the_service_works_again_after_a_failover(cluster: Cluster, async_session: Service, wait_session: Service):
    for running in (async_session, wait_session):
        create(running, f"s-over-{running.port}")
    names = {running.port: f"s-over-{running.port}" for running in (async_session, wait_session)}
    victim = cluster.primary_of(f"{{{names[async_session.port]}}}")
    victim.kill()
    answers = [call(async_session, "POST", f"/sessions/{names[async_session.port]}/heartbeat", op="first")]
    deadline = time.monotonic() + 15
    while answers[-1].status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
        answers.append(call(async_session, "POST", f"/sessions/{names[async_session.port]}/heartbeat", op="again"))
    victim.start()
    wait_until(cluster.whole, "cluster is whole again")
    assert answers[0].status_code == 503
    assert answers[-1].status_code == 200
    # The server was dead, its sockets closed: nothing was sent, so nothing can have been done.
    assert {answer.json()["outcome"] for answer in answers[:-1]} == {"fail"}
    assert call(wait_session, "POST", f"/sessions/{names[wait_session.port]}/heartbeat", op="z").status_code == 200


async def test_other_services_ask_whose_a_session_is(cluster: Cluster, folder: Path):
    """By gRPC; what was created without a person is nobody's in particular."""
    port = free_port()
    with service(folder, "session", grpc_port=port, **redis_settings(cluster)) as running:
        for session, more in (("s-anna", {"person": "anna"}), ("s-nobody", {})):
            answer = call(running, "POST", "/sessions", session=session, op=f"{session}-c", data="", **more)
            assert answer.status_code == 201
        assert call(running, "POST", "/sessions", session="s-bad", op="o", data="", person="a b").status_code == 400
        peers = Peers("session", [f"127.0.0.1:{port}"], PeerMetrics(CollectorRegistry(), "session"))

        async def owner(session: str) -> tuple[str | None, str]:
            deadline = asyncio.get_running_loop().time() + 2.0
            found = await peers.ask(WHOSE, Session(session), deadline=deadline, request_id="r-1")
            return found.person, found.state

        assert await owner("s-anna") == ("anna", "live")
        assert await owner("s-nobody") == (None, "live")
        call(running, "POST", "/sessions/s-anna/end", op="s-anna-e")
        assert await owner("s-anna") == ("anna", "ended")
        with pytest.raises(Refusal, match="missing"):
            await owner("s-unknown")
        assert running.metric('service_requests_total{outcome="ok",route="rpc-whose"}') == 3
        assert running.metric('service_requests_total{outcome="rejected",route="rpc-whose"}') == 1
        await peers.close()


def test_a_silent_primary_leaves_the_outcome_open_within_the_time(cluster: Cluster, async_session: Service):
    create(async_session, "s-silent")
    victim = cluster.primary_of("{s-silent}")
    victim.send(signal.SIGSTOP)
    try:
        started = time.monotonic()
        answer = call(async_session, "POST", "/sessions/s-silent/heartbeat", op="x")
        took_s = time.monotonic() - started
    finally:
        back(cluster, victim, signal.SIGSTOP)
    assert (answer.status_code, answer.json()) == (503, {"error": "timeout", "outcome": "unknown"})
    assert 0.9 < took_s < 1.2


def test_a_stop_lets_requests_in_flight_finish(cluster: Cluster, folder: Path):
    with service(folder, "session", **redis_settings(cluster)) as running:
        create(running, "s-stop")
        victim = cluster.primary_of("{s-stop}")
        answers: list[requests.Response] = []
        victim.send(signal.SIGSTOP)
        try:
            calling = threading.Thread(
                target=lambda: answers.append(call(running, "POST", "/sessions/s-stop/heartbeat", op="x"))
            )
            calling.start()
            wait_until(lambda: running.metric("redis_connections") >= 1, "request is on its way")
            time.sleep(0.1)
            started = time.monotonic()
            code = running.stop()
            took_s = time.monotonic() - started
            calling.join()
        finally:
            back(cluster, victim, signal.SIGSTOP)
    assert (code, [answer.status_code for answer in answers]) == (0, [503])
    assert took_s < 3.5
