"""The questions that the stack asks, to three real RabbitMQ members, each in namespaces of its own."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.errors import StackError
from resilience.spec.rabbitmq import METRICS_PORT, QUEUES, VHOST
from resilience.stack.http_link import http_ask
from resilience.stack.rabbitmq import PASSWORD, ask, form, queue_roles, survey, wait_ready
from resilience.stack.rabbitmq_view import MemberView, QueueRole, initial_queue_roles
from resilience.stack.versions import rabbitmq
from tests.component.local_stack import brought_up
from tests.component.rabbitmq_members import NAMES, STACK, eventually, leader_of, publish, ready, take, texts, within

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("members")


@pytest.fixture(scope="module")
def up(image: Path, logs: Path) -> Iterator[OwnedLocalPlatform]:
    with brought_up(STACK, image, logs) as owned:
        yield owned


@pytest.fixture
def cluster(up: OwnedLocalPlatform) -> OwnedLocalPlatform:
    """The three, ready, whatever the test before has done to them."""
    ready(up)
    return up


def test_three_members_are_one_cluster_with_every_queue_on_all_of_them(cluster: OwnedLocalPlatform) -> None:
    views = survey(cluster)
    assert all(isinstance(view, MemberView) and view.running == NAMES for view in views.values())
    roles = queue_roles(cluster)
    assert {role.queue for role in roles} == {*QUEUES, *(f"{queue}.dead" for queue in QUEUES)}
    for queue in QUEUES:
        mine = [role for role in roles if role.queue == queue]
        assert sorted(role.member for role in mine) == list(NAMES)
        assert [role.role for role in mine].count("leader") == 1
    assert set(roles) == set(initial_queue_roles(STACK)), "each run begins with the same leaders"

    form(cluster, within())  # a cluster that is formed is left as it is
    assert queue_roles(cluster) == roles


def test_policies_are_those_of_the_stack_file(cluster: OwnedLocalPlatform) -> None:
    said = ask(cluster.state("rabbitmq-2"), cluster.secret(PASSWORD), f"/api/policies/{VHOST}")
    policies = {policy["pattern"]: policy["definition"] for policy in said}
    assert policies == {
        f"^{queue}$": {"message-ttl": 3_600_000, "delivery-limit": 2, "dead-letter-exchange": f"{queue}.dlx"}
        for queue in QUEUES
    }


def test_what_is_expired_or_delivered_too_often_is_a_dead_letter(cluster: OwnedLocalPlatform) -> None:
    queue = "content-processing"
    publish(cluster, "rabbitmq-1", queue, "old", expiration="1")
    assert texts(eventually(lambda: take(cluster, "rabbitmq-0", f"{queue}.dead"), bool)) == ["old"]

    publish(cluster, "rabbitmq-1", queue, "unloved")
    for _ in range(3):  # delivered once, and twice more
        assert texts(take(cluster, "rabbitmq-0", queue, "reject_requeue_true")) == ["unloved"]
    assert texts(eventually(lambda: take(cluster, "rabbitmq-0", f"{queue}.dead"), bool)) == ["unloved"]
    assert take(cluster, "rabbitmq-0", queue) == []


def test_a_killed_leader_is_followed_by_another_and_comes_back_with_its_data(cluster: OwnedLocalPlatform) -> None:
    queue = "session-events"
    victim = leader_of(cluster, queue)
    others = [name for name in NAMES if name != victim]
    for number in range(20):
        publish(cluster, victim, queue, f"m-{number}")
    before = cluster.state(victim)
    os.kill(before.handle["server_pid"], signal.SIGKILL)
    successor = eventually(lambda: leader_of(cluster, queue), lambda name: name in others)
    assert successor != victim

    wait_ready(cluster, within())
    after = cluster.state(victim)
    assert after.restarts == before.restarts + 1
    assert texts(take(cluster, victim, queue)) == [f"m-{number}" for number in range(20)]
    assert QueueRole(member=victim, queue=queue, role="follower") in queue_roles(cluster)


def test_a_cluster_without_one_of_its_members_is_not_ready(cluster: OwnedLocalPlatform) -> None:
    victim = cluster.state("rabbitmq-1")
    hold = Path(victim.handle["hold_dir"]) / "a-test"
    hold.touch()
    try:
        eventually(lambda: cluster.state("rabbitmq-1").held_by, bool)
        os.kill(victim.handle["server_pid"], signal.SIGKILL)
        eventually(lambda: cluster.state("rabbitmq-1").running, lambda running: not running)
        eventually(lambda: survey(cluster)["rabbitmq-0"], lambda view: not sees(view, "rabbitmq-1"))
        with pytest.raises(StackError, match="rabbitmq-0 does not see rabbitmq-1 running"):
            wait_ready(cluster, within(1))
    finally:
        hold.unlink()
    wait_ready(cluster, within())


def sees(view: Any, member: str) -> bool:
    return not isinstance(view, MemberView) or member in view.running


def test_a_member_that_stands_still_delays_no_answer_for_longer_than_the_time_out(cluster: OwnedLocalPlatform) -> None:
    pid = cluster.state("rabbitmq-2").handle["server_pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        survey(cluster)
        assert time.monotonic() - began < 10  # two questions of a second to each at the same time, on a busy machine
        eventually(lambda: survey(cluster)["rabbitmq-0"], lambda view: isinstance(view, MemberView))
    finally:
        # let go on just when it is given up, it may stay apart (docs/track-record.md); a new server does not
        os.kill(pid, signal.SIGKILL)
    wait_ready(cluster, within())


def test_a_members_own_tools_find_their_way_in(cluster: OwnedLocalPlatform, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file, open(os.devnull, "rb") as nothing:
        argv = ["rabbitmqctl", "--quiet", "--formatter", "json", "cluster_status"]
        process = cluster.enter("rabbitmq-1", argv, (nothing.fileno(), file.fileno(), file.fileno()))
        assert process.wait(60) == 0, out.read_text()
    assert sorted(json.loads(out.read_text())["running_nodes"]) == [f"rabbit@{name}" for name in NAMES]


def test_each_member_can_be_scraped(cluster: OwnedLocalPlatform) -> None:
    for name in NAMES:
        answer = http_ask(cluster.state(name), "/metrics", port=METRICS_PORT, timeout_s=5)
        assert answer.status == 200
        assert f'rabbitmq_identity_info{{rabbitmq_node="rabbit@{name}"'.encode() in answer.body
        assert b"rabbitmq_unreachable_cluster_peers_count 0" in answer.body


def test_what_servers_tell_of_themselves_is_recorded(cluster: OwnedLocalPlatform) -> None:
    said = rabbitmq(cluster.state("rabbitmq-0"), cluster.secret(PASSWORD))
    assert said["version"].startswith("4.")
    assert said["config"]["net_ticktime"] == 8
    assert said["policies"]["session-events"]["delivery-limit"] == 2
    assert cluster.secret(PASSWORD) not in json.dumps(said)


def test_secrets_are_in_no_log_and_on_no_command_line(cluster: OwnedLocalPlatform, logs: Path) -> None:
    secrets = [cluster.secret(name).encode() for name in (PASSWORD, "rabbitmq-cookie")]
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    written = [path.read_bytes() for path in logs.rglob("*.log")]
    assert any(b"rabbit@" in line or b"rabbitmq" in line for line in lines)
    assert not [secret for secret in secrets for text in (*lines, *written) if secret in text]
