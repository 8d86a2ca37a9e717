"""Who does what when a session op is due."""

from collections import Counter

import pytest

from loadgen.shards import ShardMap
from loadgen.users.population import MIDDLE, Population, Session, Step
from resilience.spec.plan import ShardPlan

SHARDS = ShardMap(
    ShardPlan(group=group, primary=f"10.0.0.{group}:6379", replicas=(), slots=(slots,))
    for group, slots in ((1, (0, 5460)), (2, (5461, 10922)), (3, (10923, 16383)))
)
OK = {"create": 201, "read": 200, "heartbeat": 200, "update": 200, "end": 200}


def population(size=30, seed=7) -> Population:
    return Population(SHARDS, size, seed)


def answer(people: Population, session: Session, step: Step, version: int):
    body = {"version": version} | ({"state": "live"} if step == "read" else {})
    people.settle(session, step, "ok", OK[step], body)


def only(size_of_all: int = 3):
    """One session, created, and the population that it lives in."""
    people = population(size_of_all)
    session, step = people.pick()
    assert step == "create"
    answer(people, session, step, 1)
    return people, session


def again(people: Population, session: Session):
    """The next step of a session; others that come first are answered."""
    for _ in range(1_000):
        picked, step = people.pick()
        if picked is session:
            return step
        answer(people, picked, step, picked.version + 1)
    raise AssertionError("it was never picked again")


def test_a_journey_is_create_eight_steps_end():
    people = population()
    steps: dict[str, list[Step]] = {}
    for _ in range(3_000):
        session, step = people.pick()
        steps.setdefault(session.id, []).append(step)
        answer(people, session, step, session.version + 1)
    whole = [journey for journey in steps.values() if journey[-1] == "end"]
    assert len(whole) > 200
    for journey in whole:
        assert journey[0] == "create"
        assert Counter(journey[1:-1]) == Counter(MIDDLE)


def test_the_same_seed_makes_the_same_choices():
    def choices(seed: int):
        people = population(seed=seed)
        picked = [people.pick() for _ in range(50)]
        return [(session.id, step) for session, step in picked]

    assert choices(7) == choices(7)
    assert choices(7) != choices(8)


def test_a_session_has_one_op_at_a_time():
    people = population()
    busy = [people.pick()[0].id for _ in range(500)]
    assert len(set(busy)) == 500


def test_sessions_belong_to_their_shard():
    people = population()
    for _ in range(100):
        session, _step = people.pick()
        assert SHARDS.group_of(session.id) == session.group


def test_a_shard_that_answers_nothing_is_asked_as_often_as_before():
    people = population()
    asked: Counter[int] = Counter()
    for _ in range(3_000):
        session, step = people.pick()
        asked[session.group] += 1
        if session.group != 2:
            answer(people, session, step, session.version + 1)
    assert asked[2] > 900


def test_the_population_keeps_its_size():
    people = population(30)
    for _ in range(1_000):
        session, step = people.pick()
        answer(people, session, step, session.version + 1)
    assert people.live <= 30


def test_versions_are_those_of_the_answers():
    people, session = only()
    session.steps[:] = ["end", "update"]
    assert again(people, session) == "update"
    answer(people, session, "update", 17)
    assert session.version == 17


@pytest.mark.parametrize("step", ["update", "heartbeat", "end"])
def test_after_an_unknown_outcome_it_reads_first(step):
    people, session = only()
    session.steps[:] = ["end"] if step == "end" else ["end", step]
    assert again(people, session) == step
    people.settle(session, step, "unknown", 0, {})
    assert again(people, session) == "read"
    people.settle(session, "read", "ok", 200, {"version": 9, "state": "live"})
    assert session.version == 9
    assert again(people, session) == step


def test_a_read_that_failed_leaves_the_doubt():
    people, session = only()
    session.steps[:] = ["end", "update"]
    again(people, session)
    people.settle(session, "update", "unknown", 0, {})
    again(people, session)
    people.settle(session, "read", "fail", 0, {})
    assert again(people, session) == "read"


def test_a_failed_step_is_done_again():
    people, session = only()
    session.steps[:] = ["end", "update"]
    again(people, session)
    people.settle(session, "update", "fail", 503, {})
    assert again(people, session) == "update"


def test_a_conflict_tells_the_version():
    people, session = only()
    session.steps[:] = ["end", "update"]
    again(people, session)
    people.settle(session, "update", "fail", 409, {"version": 5})
    assert session.version == 5


@pytest.mark.parametrize(
    ("step", "outcome", "status", "body"),
    [
        pytest.param("read", "fail", 404, {}, id="not there"),
        pytest.param("update", "fail", 410, {}, id="ended by an end of unknown outcome"),
        pytest.param("read", "ok", 200, {"state": "ended", "version": 4}, id="read as ended"),
        pytest.param("end", "ok", 200, {"version": 4}, id="ended"),
    ],
)
def test_a_session_that_is_over_is_forgotten(step, outcome, status, body):
    people, session = only()
    session.steps[:] = ["end", step] if step != "end" else ["end"]
    assert again(people, session) == step
    live = people.live
    people.settle(session, step, outcome, status, body)
    assert people.live == live - 1


def test_a_creation_that_failed_made_nothing():
    people = population()
    session, step = people.pick()
    people.settle(session, step, "fail", 503, {})
    assert people.live == 0


def test_a_creation_of_unknown_outcome_is_read():
    people = population(3)
    session, step = people.pick()
    people.settle(session, step, "unknown", 0, {})
    assert session.next_step() == "read"
    assert again(people, session) == "read"
    answer(people, session, "read", 1)
    assert session.next_step() in MIDDLE
