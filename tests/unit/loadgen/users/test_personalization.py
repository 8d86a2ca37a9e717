"""Whom people's ops are about, and what is on record of their answers."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from loadgen.conductor import Conductor
from loadgen.http_client import Answer
from loadgen.users.personalization import KNOWN_MAX, OTHER_PERSON, PEOPLE, Known, People, request_of
from loadgen.users.population import Session
from resilience.history.clock import kernel_boot_id
from resilience.history.record import Invoked, Returned
from resilience.spec.load import Load
from resilience.spec.plan import LoadPlan, ShardPlan, Share
from resilience.spec.stack import Async
from tests.unit.loadgen.generators import ListSink

KNOWN = Known("s-1", "anna", 0)


def test_requests():
    assert request_of(KNOWN, "") == ("GET", "/suggestions/s-1", None)
    method, path, body = request_of(KNOWN, "v")
    assert (method, path) == ("PUT", "/profiles/s-1")
    assert body is not None
    assert msgspec.json.decode(body) == {"op": "v", "interest": "v"}


def session(number: int, person: str) -> Session:
    return Session(f"s-{number}", 1, number, [], person=person)


def test_people_take_turns_and_those_of_two_processes_are_others():
    people, others = People("", 7), People("1", 7)
    names = {people.of(number) for number in range(3 * PEOPLE)}
    assert len(names) == PEOPLE
    assert not names & {others.of(number) for number in range(PEOPLE)}


def test_the_last_sessions_are_known_and_nobody_before_there_is_one():
    people = People("", 7)
    assert not people.any_known
    for number in range(KNOWN_MAX + 5):
        people.created(session(number, people.of(number)))
    picked = [people.pick() for _ in range(2_000)]
    assert {known.session for known, _ in picked} <= {f"s-{number}" for number in range(5, KNOWN_MAX + 5)}
    assert sum(reads for _, reads in picked) == pytest.approx(1_500, abs=100)


class Edges:
    """Edges that answer everything, about this person, with a version that grows."""

    def __init__(self, person: str) -> None:
        self.person = person
        self.version = 0
        self.paths: list[str] = []

    def call(self, method, path, body, headers, *, first, reads):
        self.version += 1
        self.paths.append(path)
        return Answer("ok", 200, "", {"version": self.version, "person": self.person})


@pytest.fixture
def plan(tmp_path):
    return LoadPlan(
        base_ns=0,
        boot_id=kernel_boot_id(),
        seed=7,
        load=Load(),
        directory=str(tmp_path),
        edges=("http://edge-0:8080",),
        shards=(ShardPlan(group=1, primary="10.0.0.1:6379", replicas=(), slots=((0, 16383),)),),
        redis_password_file="",
        durability=Async(),
        session_ttl_s=60,
        latency_bounds_s=(0.1,),
        metrics_port=9646,
        personalization_rate_ops_per_s=20.0,
        share=Share(index=0, of=1),
    )


@pytest.mark.parametrize(("person", "error"), [("person-1", ""), ("somebody", OTHER_PERSON)])
def test_an_op_is_about_a_person_and_its_version_that_of_the_profile(plan, person, error):
    conductor = Conductor(plan)
    conductor.generator.recorder._sink = sink = ListSink()
    edges: Any = Edges(person)
    users = conductor._personalization
    assert users is not None
    users._edges = edges
    conductor._people.created(session(1, "person-1"))
    for number in range(40):
        users.act(number)
    sent = [line for line in sink.lines if isinstance(line, Invoked)]
    ends = [line for line in sink.lines if isinstance(line, Returned)]
    assert {line.kind for line in sent} == {"suggestion.read", "profile.write"}
    assert {line.key for line in sent} == {"person-1"}
    assert [line.version for line in ends] == list(range(1, 41))
    assert {line.error for line in ends} == {error}
    values = [line.value for line in sent if line.kind == "profile.write"]
    assert len(set(values)) == len(values)
    assert set(edges.paths) == {"/suggestions/s-1", "/profiles/s-1"}


def test_without_the_service_sessions_are_nobodys_and_nobody_asks(plan):
    conductor = Conductor(replace(plan, personalization_rate_ops_per_s=None))
    assert conductor._personalization is None
    assert conductor._sessions._population.pick()[0].person == ""
    total = conductor.generator.metrics.registry.get_sample_value
    labels = {"client": "locust", "op": "suggestion.read", "phase": "steady", "outcome": "ok"}
    assert total("load_ops_total", labels) is None
    assert conductor.generator.client == "locust"


def test_with_it_they_are_those_of_people_in_turn(plan):
    conductor = Conductor(plan)
    picked = [conductor._sessions._population.pick()[0].person for _ in range(5)]
    assert set(picked) <= {f"person-{number}" for number in range(PEOPLE)}
