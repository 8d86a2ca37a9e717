"""What each of several processes makes of the load, and that together they make what one would."""

from itertools import islice

import pytest
from msgspec.structs import replace

from loadgen.conductor import Conductor
from loadgen.http_client import Answer
from loadgen.users.collaboration import CollaborationUsers
from loadgen.users.session import SessionUsers
from resilience.history.clock import kernel_boot_id
from resilience.history.record import Invoked
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, ShardPlan, Share
from resilience.spec.stack import Async
from tests.unit.loadgen.generators import ListSink

OF = 3
LOAD = Load(session_rate_ops_per_s=90, rooms=7, room_members=2, workers=OF)


class Edges:
    """Edges that answer everything."""

    def call(self, method, path, body, headers, *, first, reads):
        return Answer("ok", 200, "", {"version": 1})


@pytest.fixture
def plan(tmp_path):
    return LoadPlan(
        base_ns=0,
        boot_id=kernel_boot_id(),
        seed=7,
        load=LOAD,
        directory=str(tmp_path),
        edges=("http://edge-0:8080",),
        shards=(ShardPlan(group=1, primary="10.0.0.1:6379", replicas=(), slots=((0, 16383),)),),
        redis_password_file="",
        durability=Async(),
        session_ttl_s=60,
        latency_bounds_s=(0.1,),
        metrics_port=9646,
    )


@pytest.fixture
def conductors(plan):
    """Several that begin at one instant, far from now so that no arrival of it is over."""
    later_us = Conductor(plan).generator.clock.now_us() + 3_600_000_000
    return [Conductor(replace(plan, share=Share(index=n, of=OF, begins_us=later_us))) for n in range(OF)]


def recording(conductor: Conductor) -> ListSink:
    """Where the lines go that its process writes from here on."""
    conductor.generator.recorder._sink = sink = ListSink()
    return sink


def test_together_they_have_the_arrivals_of_one(plan, conductors):
    begins_us = conductors[0]._plan.part.begins_us
    alone = Conductor(replace(plan, share=Share(begins_us=begins_us)))
    together = sorted(due for conductor in conductors for due in islice(conductor.dues(90.0), 200))
    assert together == list(islice(alone.dues(90.0), 600))


def test_an_only_one_begins_as_it_is_told_to(plan):
    conductor = Conductor(plan)
    before_us = conductor.generator.clock.now_us()
    first, *_, last = islice(conductor.dues(100.0), 100)
    assert before_us <= first < before_us + 1_000_000
    assert last - first == pytest.approx(1_000_000, abs=20_000)


def test_each_has_files_and_metrics_of_its_own_name(conductors, tmp_path):
    names = ["locust", "locust-1", "locust-2"]
    assert [conductor.generator.client for conductor in conductors] == names
    assert {path.name for path in tmp_path.glob("*.ops.jsonl")} == {f"{name}.ops.jsonl" for name in names}
    for conductor, name in zip(conductors, names, strict=True):
        labels = {"client": name, "op": "session.read", "phase": "steady", "outcome": "ok"}
        assert conductor.generator.metrics.registry.get_sample_value("load_ops_total", labels) == 0
        conductor.finish()
        assert (tmp_path / f"{name}.summary.json").exists()


def test_a_room_is_one_process_alone_and_none_is_left_out(conductors):
    rooms = [{member.room for member in conductor._collaboration.members} for conductor in conductors]
    assert [len(those) for those in rooms] == [3, 2, 2]
    assert set().union(*rooms) == {f"room-{number}" for number in range(1, 8)}
    members = [member.name for conductor in conductors for member in conductor._collaboration.members]
    assert len(set(members)) == len(members) == 14


def test_no_session_and_no_value_is_there_twice(conductors):
    keys: set[str] = set()
    values: set[str] = set()
    for conductor in conductors:
        sink = recording(conductor)
        users: SessionUsers = conductor._sessions
        users._edges = Edges()  # type: ignore[assignment]
        rooms: CollaborationUsers = conductor._collaboration
        for due in range(100):
            users.act(due)
            rooms.act(due)  # nobody is connected: it failed, and is on record
        ops = [line for line in sink.lines if isinstance(line, Invoked)]
        own_values = [op.value for op in ops if op.value]
        assert len(set(own_values)) == len(own_values)
        assert not values & set(own_values)
        assert not keys & {op.key for op in ops}
        keys |= {op.key for op in ops}
        values |= set(own_values)
    marks = {"locust-7-1", "locust1-7-1", "locust2-7-1", "e-warmup-1", "e1-warmup-1", "e2-warmup-100"}
    assert marks <= values


def test_the_population_is_divided(plan, conductors):
    """Each has places for its own part: 90 sessions live, 30 in each of three processes."""
    size = "_size_of_group"
    assert [getattr(one._sessions._population, size) for one in [Conductor(plan), *conductors]] == [90, 30, 30, 30]
