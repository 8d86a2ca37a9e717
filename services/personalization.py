"""The personalization service: what is suggested to a person, by their profile: what they said, and what they did.

It knows people by their sessions, and asks the session service whose one is, by gRPC. Profiles are in PostgreSQL
(`services.profile`); how old one may be that a suggestion is made of is a bound that each answer states. Sessions that
have ended are counted by their events, each once, and acknowledged after that.
"""

import asyncio
import sys
import uuid
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from services.config import Config, ConfigError, Personalization, password_in
from services.consumer import Consumer, NotNowError, UnfitError
from services.database import DatabaseError
from services.metric import PeerMetrics, ProfileMetrics, RequestMetrics, Stores, new_registry
from services.outbox import end_of
from services.profile import STEP_TIMEOUT_S, Profile, Profiles
from services.rpc import Peers
from services.session_rpc import WHOSE, Session
from services.task import end
from services.web import (
    ID_PATTERN,
    Refusal,
    Service,
    body_from,
    id_from,
    json_response,
    main,
    matches_id,
    wait_for_signal,
)

SUGGESTED = 3  # at a time
CATALOGUE = ("breathing", "gratitude", "stretching", "journaling", "walking", "listening", "resting")


class Interest(Struct, frozen=True):
    """The body of a change of a profile."""

    op: Annotated[str, Meta(pattern=ID_PATTERN)]
    interest: Annotated[str, Meta(pattern=ID_PATTERN)]


def suggestions(profile: Profile) -> list[str]:
    """What is suggested: what they said that they care for first, then what they have had least of."""
    begin = profile.sessions % len(CATALOGUE)
    others = (CATALOGUE * 2)[begin : begin + SUGGESTED]
    return list(dict.fromkeys((*filter(None, (profile.interest,)), *others)))[:SUGGESTED]


class People:
    """The routes, and the effect of events."""

    def __init__(
        self, profiles: Profiles, sessions: Peers, metrics: ProfileMetrics, stores: Stores, config: Config
    ) -> None:
        assert config.personalization is not None
        self._profiles = profiles
        self._sessions = sessions
        self._metrics = metrics
        self._stores = stores
        self._bound_s = config.personalization.staleness_bound_s
        self._timeout_s = config.timeout_s
        self._interest_body = msgspec.json.Decoder(Interest)

    def add_routes(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/suggestions/{session:[^/]+}", self.suggest, name="suggest")
        app.router.add_put("/profiles/{session:[^/]+}", self.change, name="change")

    async def suggest(self, request: web.Request) -> web.StreamResponse:
        """What is suggested to whose session it is."""
        deadline = self._deadline()
        person = await self._person(request, deadline)
        profile = await self._profiles.read(person, deadline)
        return json_response(
            {
                "person": person,
                "suggestions": suggestions(profile),
                "version": profile.version,
                "sessions": profile.sessions,
                "source": profile.source,
                "lag_s": round(profile.lag_s, 4),
                "bound_s": self._bound_s,
            }
        )

    async def change(self, request: web.Request) -> web.StreamResponse:
        """What whose session it is cares for from now on."""
        deadline = self._deadline()
        body = await body_from(request, self._interest_body, deadline)
        person = await self._person(request, deadline)
        version = await self._profiles.set_interest(person, body.op, body.interest, deadline)
        return json_response({"person": person, "version": version})

    async def ended(self, event: str, redelivered: bool) -> None:  # noqa: FBT001  as the server flags it
        """The effect of an event; see `services.consumer.Effect`."""
        told = end_of(event)
        if told is None or not all(map(matches_id, told)):
            raise UnfitError(event)
        if redelivered:
            self._metrics.redelivered.inc()
        try:
            await self._profiles.add(event, await self._person_of(*told))
        except DatabaseError as error:
            raise NotNowError from error
        self._metrics.effects.inc()

    async def _person(self, request: web.Request, deadline: float) -> str:
        """Whose session a request is of. Raises `Refusal`."""
        session = id_from(request, "session")
        person = await self._asked(session, deadline, request.headers.get("X-Request-Id", ""))
        if person is None:
            raise Refusal(404, "nobodys")
        return person

    async def _person_of(self, session: str, op: str) -> str | None:
        """Whose session has ended; None also of one that is not there any more. Raises `NotNowError`."""
        try:
            return await self._asked(session, asyncio.get_running_loop().time() + STEP_TIMEOUT_S, op)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            self._stores.tell("session", refusal.error)
            raise NotNowError from refusal

    async def _asked(self, session: str, deadline: float, request_id: str) -> str | None:
        request_id = request_id if matches_id(request_id) else uuid.uuid4().hex
        owner = await self._sessions.ask(WHOSE, Session(session), deadline=deadline, request_id=request_id)
        self._stores.is_well("session")
        return owner.person

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


async def serve(config: Config) -> None:
    """Serve until a signal comes. Raises `BrokenOffError` if the beats end: no replica would be fresh any more."""
    settings = config.personalization
    if settings is None:
        raise ConfigError("personalization: is missing")
    registry = new_registry()
    metrics = ProfileMetrics(registry)
    stores = Stores("personalization", metrics.errors)
    profiles = Profiles(settings, metrics, stores)
    sessions = Peers("session", settings.sessions, PeerMetrics(registry, "session"))
    people = People(profiles, sessions, metrics, stores, config)
    consumer = consumer_of(settings, people)
    service = Service(config, registry, lambda: True)
    app = service.application(RequestMetrics(registry, ("suggest", "change")))
    people.add_routes(app)
    beats = asyncio.create_task(profiles.beat_on(), name="beats")
    consumer.open()
    await service.start(app)
    await wait_for_signal(beats)
    await service.stop()
    await consumer.finish()
    await end(beats)
    await sessions.close()
    await profiles.close()


def consumer_of(settings: Personalization, people: People) -> Consumer:
    """The consumer of ends of sessions."""
    password = password_in(settings.rabbitmq_password_file)
    return Consumer(settings.rabbitmq, settings.queue, people.ended, user=settings.user, password=password)


if __name__ == "__main__":
    sys.exit(main(serve))
