"""Ends and starts of members, as two looks at the API tell them apart."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from resilience.backend.base import MemberState
from resilience.backend.kubernetes.ends import GOES_ON, NODES_EVERY, EndsWatch, News, Seen, first_news, news, nodes_news
from resilience.backend.kubernetes.place import servers
from resilience.errors import StackError

NOW = datetime(2026, 11, 25, 12, 0, 7, 250_000, tzinfo=UTC)
LOOKED = NOW - timedelta(seconds=1.5)


def member(identity: str, last_exit: int | None = None, ended_at: str = "", ended: str = "c1") -> MemberState:
    """``ended``: the container whose end is told."""
    return MemberState(
        name="edge-0", component="edge", node="node-1", address="10.0.0.1", running=bool(identity), identity=identity,
        restarts=0, handle={"last_exit": last_exit, "ended_at": ended_at, "ended_id": ended, "container_id": "c1"},
    )  # fmt: skip


WAS = {"edge-0": Seen(member("a/1"), LOOKED)}
AWAY = msgspec.structs.replace(member(""), handle={})  # no pod


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("a/1", member("a/1"), []),
        ("", member(""), []),
        (
            "a/1",
            member(""),
            [{"member": "edge-0", "what": "exited", "code": None, "late_us": 0, "unsure_us": 1_500_000}],
        ),
        ("", member("a/2"), [{"member": "edge-0", "what": "started"}]),
        (
            "a/1",
            member("a/2", 137, "2026-11-25T12:00:03Z"),
            [
                {"member": "edge-0", "what": "exited", "code": 137, "late_us": 3_250_000, "unsure_us": 1_000_000},
                {"member": "edge-0", "what": "restarted"},
            ],
        ),
    ],
    ids=["the same", "still away", "ended", "back", "restarted between two looks"],
)
def test_news(before: str, after: MemberState, told: list[News]) -> None:
    assert list(news({"edge-0": Seen(member(before), LOOKED)}, [after], NOW)) == told


def test_a_member_that_nobody_has_seen_before_is_no_news() -> None:
    assert list(news({}, [member("a/1")], NOW)) == []


@pytest.mark.parametrize("ended", ["c0", "c2", ""], ids=["the one before", "the one after", "nobody says which"])
def test_the_end_of_another_container_of_the_pod_is_not_taken_for_it(ended: str) -> None:
    (exited,) = news(WAS, [member("", 137, "2026-11-25T11:00:00Z", ended)], NOW)
    assert exited == {"member": "edge-0", "what": "exited", "code": None, "late_us": 0, "unsure_us": 1_500_000}


def test_a_server_whose_pod_is_away_may_go_on_for_a_while() -> None:
    assert list(news(WAS, [AWAY], NOW)) == []
    assert [data["what"] for data in news(WAS, [AWAY], NOW, last=True)] == ["exited"]
    (exited,) = news(WAS, [AWAY], LOOKED + GOES_ON)
    assert (exited["what"], exited["late_us"], exited["unsure_us"]) == ("exited", 0, GOES_ON.total_seconds() * 1e6)


def test_a_server_whose_pod_was_away_has_ended_once_another_runs_in_its_place() -> None:
    said: list[News] = []
    looks = iter([[member("a/1")], [AWAY], [AWAY], [member("b/1")]])
    watch = EndsWatch(lambda: next(looks), lambda _name, data: said.append(data))
    for _ in range(4):
        watch._look()
    assert [data["what"] for data in said] == ["exited", "restarted"]
    assert said[0]["unsure_us"] > 0


def watched(states: Callable[[], Sequence[MemberState]]) -> EndsWatch:
    watch = EndsWatch(states, lambda _name, _data: None)
    watch.start()
    return watch


def test_a_watch_that_broke_off_says_so_when_it_is_stopped() -> None:
    looks = iter([[member("a/1")]])
    with pytest.raises(StackError, match="members' ends: not all were seen: "):
        watched(lambda: next(looks)).stop()


def test_a_last_look_that_nobody_answered_says_so() -> None:
    looks = iter([True, False])

    def states() -> list[MemberState]:
        if not next(looks):
            raise StackError("the API server is away")
        return [member("a/1")]

    with pytest.raises(StackError, match="not all were seen: the API server is away"):
        watched(states).stop()


def test_a_watch_that_saw_all_is_stopped_in_silence() -> None:
    watched(lambda: [member("a/1")]).stop()
    EndsWatch(list, lambda _name, _data: None).stop()  # and one that was never started


def test_an_end_within_the_second_that_it_is_told_by_is_not_late() -> None:
    (ended,) = news(WAS, [member("", 0, "2026-11-25T12:00:07Z")], NOW)
    assert ended["late_us"] == 0


def test_all_that_run_at_first_are_told_of_as_started() -> None:
    assert list(first_news([member("a/1"), member("")])) == [{"member": "edge-0", "what": "started"}]


def test_how_a_client_of_the_load_ends_is_told_by_the_load() -> None:
    client = msgspec.structs.replace(member("b/1"), name="loadgen", component="loadgen")
    assert servers([member("a/1"), client]) == (member("a/1"),)


def test_a_node_that_is_given_up_and_taken_back_is_news() -> None:
    both, one = {"node-1": True, "node-2": True}, {"node-1": False, "node-2": True}
    assert list(nodes_news({}, both)) == []
    assert list(nodes_news(both, both)) == []
    assert list(nodes_news(both, one)) == [{"node": "node-1", "what": "not-ready"}]
    assert list(nodes_news(one, both)) == [{"node": "node-1", "what": "ready"}]


def test_the_watch_tells_of_nodes_too() -> None:
    said: list[tuple[str, News]] = []
    looks = iter([{"node-1": True}, {"node-1": False}])
    watch = EndsWatch(list, lambda name, data: said.append((name, data)), lambda: next(looks))
    for _ in range(NODES_EVERY + 1):
        watch._look()
    assert said == [("node", {"node": "node-1", "what": "not-ready"})]
