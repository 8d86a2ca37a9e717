"""The order of readiness against real HTTP servers and a real Prometheus on the loopback interface (no Redis)."""

import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread, Timer

import pytest

from resilience.errors import StackError
from resilience.spec.stack import PORTS, Async, Member, Redis, Stack
from resilience.stack import prometheus, service
from resilience.stack.converge import wait_converged
from resilience.stack.readiness import first_request, stack_ready
from resilience.stack.versions import servers
from tests.fakes import FakePlatform

pytestmark = pytest.mark.component

STACK = Stack(
    name="http",
    durability=Async(),
    nodes=("node-0",),
    restart_delay_s=2,
    session_ttl_s=604_800,
    scrape_interval_s=1,
    redis=Redis(),
    shards=(),
    members=(
        Member(name="session-0", component="session", node="node-0"),
        Member(name="edge-0", component="edge", node="outside"),
        Member(name="edge-1", component="edge", node="outside"),
        Member(name="prometheus-0", component="prometheus", node="observer"),
        Member(name="loadgen", component="loadgen", node="observer"),
    ),
)
START = 'mount -t tmpfs tmpfs "$1/tmp" && cat > "$1/tmp/p.yml" && exec chroot "$1" prometheus '


@dataclass
class Site:
    """What the HTTP servers answer."""

    health: int = 200
    create: int = 201
    created: list[str] = field(default_factory=list)


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(site.health, json.dumps({"version": "9.9"}))
            else:
                self._answer(200, "some_metric 1\n")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            site.created.append(body["session"])
            self._answer(site.create, json.dumps({"error": "down"}))

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@dataclass(frozen=True)
class World:
    platform: FakePlatform
    sites: dict[str, Site]


@pytest.fixture
def world() -> Iterator[World]:
    subnet = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}"
    addresses = {member.name: f"{subnet}.{at}" for at, member in enumerate(STACK.members, 1)}
    sites = {name: Site() for name in ("session-0", "edge-0", "edge-1")}
    listening = [ThreadingHTTPServer((addresses[name], 8080), handler(site)) for name, site in sites.items()]
    for server in listening:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield World(FakePlatform(STACK, addresses, {"redis-password": "unused"}), sites)
    for server in listening:
        server.shutdown()
        server.server_close()


def config(world: World, *without: str) -> bytes:
    targets = [
        {
            "targets": [f"{world.platform.addresses[member.name]}:{PORTS[member.component]}"],
            "labels": {"member": member.name},
        }
        for member in STACK.members
        if member.name not in without
    ]
    text = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "all", "static_configs": targets}],
    }
    return json.dumps(text).encode()


@pytest.fixture
def start_prometheus(world: World) -> Iterator[object]:
    image = os.environ.get("RESILIENCE_IMAGE")
    if not image:
        pytest.fail("RESILIENCE_IMAGE has to name the root of the stack image")
    started: list[subprocess.Popen[bytes]] = []

    def start(*without: str) -> None:
        flags = (
            "--config.file=/tmp/p.yml --storage.tsdb.path=/tmp/data --web.listen-address="
            f"{world.platform.addresses['prometheus-0']}:{PORTS['prometheus']}"
        )
        command = ["unshare", "--mount", "sh", "-c", START + flags, "sh", image]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(config(world, *without))

    yield start
    for process in started:
        process.kill()
        process.wait()


def within(seconds: float) -> float:
    return time.monotonic() + seconds


def test_a_stack_is_ready_when_a_session_was_created_and_everything_is_scraped(world: World, start_prometheus):
    start_prometheus()
    took_s = stack_ready(world.platform, within(20))
    assert 0 < took_s < 20
    assert len(world.sites["edge-0"].created) == 1
    described = servers(world.platform)
    assert described["session-0"] == {"component": "session", "version": "9.9"}
    assert described["prometheus-0"]["version"].startswith("2.")
    assert "scrape_interval: 1s" in described["prometheus-0"]["config"]
    assert described["prometheus-0"]["flags"]["config.file"] == "/tmp/p.yml"


def test_a_target_that_is_down_or_missing_is_named(world: World, start_prometheus):
    start_prometheus("edge-1")
    asked = world.platform.state("prometheus-0")
    ends_at = within(20)
    while (reason := prometheus.unready(STACK, asked)) != "no target scrapes edge-1" and time.monotonic() < ends_at:
        time.sleep(0.1)
    assert reason == "no target scrapes edge-1"
    with pytest.raises(StackError, match=r"no target scrapes edge-1$"):
        prometheus.wait_ready(world.platform, within(0.3))


def test_a_prometheus_that_does_not_answer_is_named(world: World):
    with pytest.raises(StackError, match=r"prometheus-0 does not answer GET /-/ready: .*refused"):
        prometheus.wait_ready(world.platform, within(0.3))
    assert "refused" in servers(world.platform)["prometheus-0"]["error"]


def test_a_service_that_is_not_healthy_is_named_with_its_answer(world: World):
    world.sites["session-0"].health = 503
    with pytest.raises(StackError, match=r'session-0 answered 503 \{"version": "9.9"\}$'):
        service.wait_ready(world.platform, within(0.3))
    assert "session-0 answered 503" in wait_converged(world.platform, within(0.2)).reason
    assert "503" in servers(world.platform)["session-0"]["error"]


def test_all_that_is_not_ready_is_named_at_once(world: World):
    world.sites["edge-1"].health = 500
    with pytest.raises(StackError, match=r"edge-1 answered 500") as refusal:
        stack_ready(world.platform, within(0.5))
    assert "prometheus-0 does not answer" in str(refusal.value)


def test_whose_server_ended_meanwhile_is_told_with_its_last_words(world: World):
    world.sites["session-0"].health = 503
    world.platform.last_words["session-0"] = "cannot serve"
    ended = Timer(0.2, world.platform.restarts.update, [{"session-0": 1}])
    ended.start()
    with pytest.raises(
        StackError, match=r"session-0 answered 503 .*; session-0 ended once, its log with: cannot serve$"
    ):
        stack_ready(world.platform, within(0.5))
    ended.join()


def test_the_first_request_tries_the_other_edge(world: World):
    world.sites["edge-0"].create = 503
    first_request(world.platform, within(2))
    assert world.sites["edge-0"].created == world.sites["edge-1"].created


def test_without_a_good_answer_the_last_ones_are_told(world: World):
    for name in ("edge-0", "edge-1"):
        world.sites[name].create = 503
    with pytest.raises(StackError, match=r"the first good request took .* edge-0 answered 503 .*; edge-1 answered"):
        first_request(world.platform, within(0.3))
    assert len(set(world.sites["edge-0"].created)) == 1  # the same session and op: harmless to repeat
