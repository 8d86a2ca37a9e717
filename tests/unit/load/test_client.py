"""A client as the runner sees it."""

import sys
from pathlib import Path

import msgspec
import pytest

from resilience.history.record import Event
from resilience.load.client import CLIENTS, Client, clients_of, short_of
from resilience.spec.plan import WHOLE, Share
from resilience.spec.read import read_stack
from tests.histories import by_two, scenario

PROJECT_ROOT = Path(__file__).resolve().parents[3]
LOCUST, DIRECT, POSTGRESQL, RABBITMQ = CLIENTS


class Done:
    """A process that has ended."""

    def poll(self):
        return 1

    def interrupt(self):
        raise AssertionError("it is gone")

    def wait(self, timeout_s):
        return 1


@pytest.fixture
def client(tmp_path):
    return Client("locust", Done(), tmp_path, {"session": 135.0, "edit": 45.0})


def second(tmp_path: Path, at: int, end: bytes = b"\n", **ok_by: int):
    line = msgspec.json.encode(Event("generator", at, {"client": "locust", "ok_by": ok_by}))
    with (tmp_path / "locust.stats.jsonl").open("ab") as file:
        file.write(line + end)


def test_a_tier_that_a_stack_does_not_have_has_no_client():
    names = [spec.name for spec in clients_of(read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml"))]
    assert names == ["locust", "direct"]
    assert clients_of(read_stack(PROJECT_ROOT, "stacks/local/rabbitmq.yaml")) == (LOCUST, DIRECT, RABBITMQ)
    assert len(clients_of(read_stack(PROJECT_ROOT, "stacks/local/whole.yaml"))) == 4
    assert len(clients_of(read_stack(PROJECT_ROOT, "stacks/local/personalization.yaml"))) == 4
    assert RABBITMQ.argv(Path("/r/x.json"), {})[-3:] == ["-m", "loadgen.rabbitmq_client", "/r/x.json"]


def test_commands():
    assert LOCUST.argv(Path("/r/locust.plan.json"), {"HOME": "/x"})[:5] == [
        "env", "RESILIENCE_LOAD_PLAN=/r/locust.plan.json", sys.executable, "-m", "locust",
    ]  # fmt: skip
    assert DIRECT.argv(Path("/r/p"), {"RESILIENCE_RECORD": "alternate"}) == [
        "env", "RESILIENCE_RECORD=alternate", sys.executable, "-m", "loadgen.direct", "/r/p",
    ]  # fmt: skip
    assert POSTGRESQL.argv(Path("/r/p"), {})[-3:] == ["-m", "loadgen.postgresql_client", "/r/p"]


def test_registers_have_a_rate_where_the_load_asks_for_them():
    assert POSTGRESQL.rates_min(scenario(tiers=("postgresql",))) == {"pgbouncer": 9, "direct": 9, "registers": 7.2}
    assert "registers" not in POSTGRESQL.rates_min(scenario())


def test_transactions_on_lists_have_a_rate_that_leaves_out_most_that_are_rolled_back():
    about = scenario(tiers=("postgresql",))
    about = msgspec.structs.replace(
        about, load=msgspec.structs.replace(about.load, postgresql_list_rate_ops_per_s=20.0)
    )
    assert POSTGRESQL.rates_min(about)["lists"] == 6


def test_before_the_first_second_every_stream_is_short(client):
    client.look()
    assert short_of([client]) == ["locust session: 0 of 135 ops/s", "locust edit: 0 of 45 ops/s"]


@pytest.mark.parametrize(
    ("session", "edit", "expect"),
    [(135, 45, []), (150, 44, ["locust edit: 44 of 45 ops/s"]), (134, 50, ["locust session: 134 of 135 ops/s"])],
)
def test_the_last_whole_second_counts(client, tmp_path, session, edit, expect):
    second(tmp_path, 1, session=1, edit=1)
    client.look()
    second(tmp_path, 2, session=session, edit=edit)
    second(tmp_path, 3, end=b"", session=0, edit=0)  # is being written
    client.look()
    assert short_of([client]) == expect


def test_the_end_of_one_that_said_all(client, tmp_path):
    (tmp_path / "locust.ops.jsonl").write_bytes(b'["i"]\n')
    assert client.end(0) == {"exit": 0, "torn": False}


@pytest.mark.parametrize(("ops", "torn"), [(b"", False), (b'["i"]\n', False), (b'["i"]\n["r",', True), (None, False)])
def test_the_end_of_one_that_was_killed(client, tmp_path, ops, torn):
    if ops is not None:
        (tmp_path / "locust.ops.jsonl").write_bytes(ops)
    assert client.end(-9) == {"exit": -9, "torn": torn}


@pytest.mark.parametrize(("log", "expect"), [(None, "it said nothing"), ("", "it said nothing"), ("a\nb\n\n", "b")])
def test_last_words(client, tmp_path, log, expect):
    if log is not None:
        (tmp_path / "locust.log").write_text(log)
    assert client.last_words() == expect


@pytest.mark.parametrize(
    ("first", "second", "expect"),
    [
        ((68, 25), (67, 20), []),
        ((68, 25), (66, 20), ["locust session: 134 of 135 ops/s"]),
        ((150, 50), None, []),
        ((60, 50), None, ["locust session: 60 of 135 ops/s"]),
    ],
    ids=["enough in sum", "too few in sum", "one has said nothing yet", "and the other is too slow for both"],
)
def test_processes_of_one_kind_reach_their_minimum_together(tmp_path, first, second, expect):
    both = []
    for name, done in (("locust", first), ("locust-1", second)):
        client = Client(name, Done(), tmp_path, {"session": 135.0, "edit": 45.0}, "locust")
        client.latest = {"ok_by": dict(zip(("session", "edit"), done, strict=True))} if done else {}
        both.append(client)
    direct = Client("direct", Done(), tmp_path, {"shard-1": 90.0})
    assert short_of([*both, direct]) == [*expect, "direct shard-1: 0 of 90 ops/s"]


def test_only_what_people_do_is_divided():
    assert LOCUST.shares(scenario(), 5) == DIRECT.shares(by_two(scenario()), 5) == [WHOLE]
    shares = LOCUST.shares(by_two(scenario()), 5)
    assert shares == [Share(index=0, of=2, begins_us=5), Share(index=1, of=2, begins_us=5)]
    assert [LOCUST.name_of(share) for share in shares] == ["locust", "locust-1"]
