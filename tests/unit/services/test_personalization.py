"""What the personalization service asks others, in whose name, and what it makes of what they say."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from prometheus_client import CollectorRegistry

from services import personalization as module
from services.config import Config, Personalization
from services.consumer import NotNowError, UnfitError
from services.database import DatabaseError
from services.metric import ProfileMetrics, Stores
from services.personalization import People, serve
from services.profile import Profile
from services.session_rpc import Owner
from services.web import BrokenOffError, Refusal, Service

EVENT = "session-ended/s-1/locust-7-9"


class Sessions:
    """The session service: says whose a session is, or refuses."""

    def __init__(self, said: Owner | Refusal) -> None:
        self.said = said
        self.asked: list[tuple[str, str]] = []  # sessions, and the request that each question was of

    async def ask(self, _method: Any, question: Any, *, deadline: float, request_id: str) -> Owner:
        self.asked.append((question.session, request_id))
        if isinstance(self.said, Refusal):
            raise self.said
        return self.said


class Profiles:
    """Profiles that are all alike; with a problem, none."""

    def __init__(self, problem: DatabaseError | None = None) -> None:
        self.problem = problem
        self.added: list[tuple[str, str | None]] = []

    async def read(self, person: str, _deadline: float) -> Profile:
        return Profile(4, "", 2, "replica", 0.25)

    async def add(self, event: str, person: str | None) -> None:
        if self.problem:
            raise self.problem
        self.added.append((event, person))


def people(sessions: Sessions, profiles: Profiles) -> People:
    metrics = ProfileMetrics(CollectorRegistry())
    own = Personalization(
        postgresql=("a:1",), replicas=(), postgresql_password_file="", rabbitmq=("b:1",), rabbitmq_password_file="",
        sessions=("c:1",), staleness_bound_s=2.0,
    )  # fmt: skip
    config = Config(name="personalization-0", port=0, personalization=own)
    those: Any = profiles
    asked: Any = sessions
    return People(those, asked, metrics, Stores("personalization", metrics.errors), config)


async def suggested(sessions: Sessions, headers: dict[str, str]) -> web.StreamResponse:
    request = make_mocked_request("GET", "/suggestions/s-1", headers=headers, match_info={"session": "s-1"})
    return await people(sessions, Profiles()).suggest(request)


async def test_a_question_is_of_the_request_that_it_is_asked_for():
    sessions = Sessions(Owner("anna", "live"))
    answer = await suggested(sessions, {"X-Request-Id": "request-17"})
    assert isinstance(answer, web.Response)
    assert answer.text == (
        '{"person":"anna","suggestions":["stretching","journaling","walking"],"version":4,"sessions":2,'
        '"source":"replica","lag_s":0.25,"bound_s":2.0}'
    )
    for headers in ({}, {"X-Request-Id": "not an id"}):
        await suggested(sessions, headers)
    ids = [request_id for _, request_id in sessions.asked]
    assert ids[0] == "request-17"
    assert len(set(ids)) == 3, "one of its own where none came along"


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        (Owner(None, "live"), 404, "nobodys"),
        (Refusal(404, "missing"), 404, "missing"),
        (Refusal(503, "session"), 503, "session"),
    ],
)
async def test_nothing_is_suggested_to_nobody(said: Owner | Refusal, status: int, error: str):
    with pytest.raises(Refusal) as caught:
        await suggested(Sessions(said), {})
    assert (caught.value.status, caught.value.error) == (status, error)


@pytest.mark.parametrize(
    ("said", "person"),
    [(Owner("anna", "ended"), "anna"), (Owner(None, "ended"), None), (Refusal(404, "missing"), None)],
)
async def test_an_event_has_its_effect_whoever_it_is_of(said: Owner | Refusal, person: str | None):
    sessions, profiles = Sessions(said), Profiles()
    await people(sessions, profiles).ended(EVENT, redelivered=False)
    assert profiles.added == [(EVENT, person)]
    assert sessions.asked == [("s-1", "locust-7-9")], "of the request that ended the session"


@pytest.mark.parametrize(
    ("said", "problem"),
    [(Refusal(503, "session"), None), (Owner("anna", "ended"), DatabaseError("timeout"))],
    ids=["no session service", "no database"],
)
async def test_what_cannot_be_had_now_may_be_tried_again(said: Owner | Refusal, problem: DatabaseError | None):
    with pytest.raises(NotNowError):
        await people(Sessions(said), Profiles(problem)).ended(EVENT, redelivered=True)


@pytest.mark.parametrize("message", ["", "no event", "session-ended/s-1", "session-ended//op", "session-ended/a b/op"])
async def test_what_is_no_event_nobody_can_make_anything_of(message: str):
    profiles = Profiles()
    with pytest.raises(UnfitError):
        await people(Sessions(Owner("anna", "ended")), profiles).ended(message, redelivered=False)
    assert profiles.added == []


async def test_a_service_whose_beats_have_ended_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its replicas would be left one after the other, and nobody would be told why."""
    password = tmp_path / "password"
    password.write_text("secret")
    own = Personalization(
        postgresql=("a:1",), replicas=(), postgresql_password_file=str(password), rabbitmq=("b:1",),
        rabbitmq_password_file=str(password), sessions=("c:1",), staleness_bound_s=2.0,
    )  # fmt: skip

    class Idle:
        def open(self) -> None:
            """Connects to nobody."""

    async def start(_service: Service, _app: web.Application) -> None:
        """Opens no socket."""

    async def beat_on(_profiles: object) -> None:
        raise ValueError("no such beat")

    monkeypatch.setattr(module, "consumer_of", lambda *_: Idle())
    monkeypatch.setattr(Service, "start", start)
    monkeypatch.setattr("services.profile.Profiles.beat_on", beat_on)
    with pytest.raises(BrokenOffError, match="beats") as caught:
        await asyncio.wait_for(serve(Config(name="personalization-0", port=0, personalization=own)), 5.0)
    assert isinstance(caught.value.__cause__, ValueError)
