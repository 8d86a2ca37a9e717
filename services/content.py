"""The content service: articles in PostgreSQL, a cache of them in Redis, and a job for each change, in RabbitMQ.

::

    write ─▶ article and job, one commit ─▶ cached copy dropped ─▶ acknowledged to the author
                      │
                      └▶ relay: publish ─▶ confirm ─▶ marked ──▶ worker: rendition, one commit ─▶ acknowledged
    read  ─▶ cache ─▶ (miss) PostgreSQL ─▶ cache filled

A cached copy ends `cache_ttl_s` after its row was *asked for*, whatever became of the fill on its way and whether a
writer could drop it: a read that begins so long after a write was acknowledged never gives less than that write.

A job is published at least once, so its effect is a row under the job's id, which is written again if the job comes
again. Each instance has a relay (`services.mover`) and a worker; any of them works on anybody's jobs.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from services.broker import Broker
from services.config import Config, ConfigError, Outbox, password_in
from services.consumer import Consumer, NotNowError, UnfitError
from services.database import Database, DatabaseError, by, database_of, write
from services.metric import ContentMetrics, OutboxMetrics, RequestMetrics, Stores, new_registry
from services.mover import Mover
from services.outbox import rows_of
from services.redis_cluster import RedisCluster, cluster_of
from services.redis_node import StoreError
from services.script import Script
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

CACHE_TIMEOUT_S = 0.2  # of each step at the cache: without it people are served all the same
WORK_TIMEOUT_S = 3.0
CATALOGUE_LENGTH = 20

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Body = Annotated[str, Meta(max_length=16_384)]

Row = tuple[Any, ...]

_JOB = "article-changed/"
JOBS = "article_job"
JOB_COLUMNS = "article text NOT NULL, version bigint NOT NULL"
TABLES = (
    """CREATE TABLE IF NOT EXISTS article (
    id text PRIMARY KEY,
    version bigint NOT NULL,
    op text NOT NULL,
    body text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now())""",
    "CREATE INDEX IF NOT EXISTS article_changed ON article (changed_at)",
    """CREATE TABLE IF NOT EXISTS rendition (
    job text PRIMARY KEY,
    words bigint NOT NULL,
    times bigint NOT NULL DEFAULT 1)""",
)
_WITH_JOB = """, job AS (
    INSERT INTO article_job (id, article, version) SELECT %(job)s, id, version FROM changed RETURNING version)
SELECT version FROM job"""
CREATE = f"""WITH changed AS (
    INSERT INTO article (id, version, op, body) VALUES (%(article)s, 1, %(op)s, %(body)s)
    ON CONFLICT (id) DO NOTHING RETURNING id, version){_WITH_JOB}"""  # noqa: S608  no value stands in it
UPDATE = f"""WITH changed AS (
    UPDATE article SET version = version + 1, op = %(op)s, body = %(body)s, changed_at = now()
    WHERE id = %(article)s AND version = %(expected)s RETURNING id, version){_WITH_JOB}"""  # noqa: S608  likewise
# of a write that is repeated: its job is written again, so that the commit waits for standbys once more
AGAIN = "UPDATE article_job SET id = id WHERE id = %(job)s RETURNING version"
READ = "SELECT version, op, body FROM article WHERE id = %s"
CATALOGUE = f"SELECT id, version FROM article ORDER BY changed_at DESC LIMIT {CATALOGUE_LENGTH}"  # noqa: S608  likewise
# a job that comes again is worked again, and adds no row
WORK = """INSERT INTO rendition (job, words) VALUES (%(job)s, coalesce((
        SELECT cardinality(string_to_array(body, ' ')) FROM article WHERE id = %(article)s), 0))
    ON CONFLICT (job) DO UPDATE SET words = excluded.words, times = rendition.times + 1"""


class Create(Struct, frozen=True):
    """The body of a create."""

    article: Id
    op: Id
    body: Body


class Update(Struct, frozen=True):
    """The body of an update; `version` is the one that it replaces."""

    op: Id
    version: Annotated[int, Meta(ge=1, le=2**53)]
    body: Body


def job_of(article: str, op: str) -> str:
    """The id of the job that a change makes, and of its row: a change that is repeated has the same."""
    return f"{_JOB}{article}/{op}"


def article_of(job: str) -> str:
    """The article that such a job is about; "" where it is none."""
    article, slash, op = job.removeprefix(_JOB).partition("/")
    return article if job.startswith(_JOB) and slash and matches_id(article) and matches_id(op) else ""


class Cache:
    """Copies of articles in Redis; whatever goes wrong here is counted, and nobody's concern."""

    def __init__(self, cluster: RedisCluster, ttl_s: float, metrics: ContentMetrics) -> None:
        self._cluster = cluster
        self._ttl_s = ttl_s
        self._metrics = metrics
        self._read = Script.load("article_read")
        self._fill = Script.load("article_fill")
        self._drop = Script.load("article_drop")

    async def read(self, article: str, deadline: float) -> Row | None:
        """Version, op and body of the copy, None where there is none."""
        try:
            found = await self._run(self._read, article, (), deadline)
        except StoreError:
            self._metrics.lookups["error"].inc()
            return None
        self._metrics.lookups["miss" if found is None else "hit"].inc()
        return found if found is None else (int(found[0]), found[1], found[2])

    async def fill(self, article: str, row: Row, asked_at: float, deadline: float) -> None:
        """Keeps what the database was asked for at an instant (`time.time`), for as long as that is valid."""
        valid_until_ms = int((asked_at + self._ttl_s) * 1_000)
        try:
            await self._run(self._fill, article, (*row, valid_until_ms), deadline)
        except StoreError:
            self._metrics.lookups["error"].inc()

    async def drop(self, article: str, deadline: float) -> None:
        """Forgets the copy of an article that has changed, if that can be done."""
        try:
            await self._run(self._drop, article, (), deadline)
        except StoreError:
            self._metrics.not_dropped.inc()

    async def _run(self, script: Script, article: str, args: tuple[Any, ...], deadline: float) -> Any:
        soon = min(deadline, asyncio.get_running_loop().time() + CACHE_TIMEOUT_S)
        return await self._cluster.run(script, (f"article:{{{article}}}",), args, durable=False, deadline=soon)


class Store:
    """What the service asks of PostgreSQL's primary."""

    def __init__(self, database: Database, metrics: ContentMetrics) -> None:
        self._database = database
        self._stores = Stores("content", metrics.errors)

    async def written(self, statement: str, values: Mapping[str, Any], deadline: float) -> Row | None:
        """The row that a change returns, once it is committed. Raises `DatabaseError`: it may have been done."""

        async def change(connection: Any) -> Row | None:
            cursor = await write(connection, statement, values, deadline)
            return await cursor.fetchone() if cursor.description else None

        return await self._by(change, deadline)

    async def asked(self, statement: str, values: Sequence[Any], deadline: float) -> list[Row]:
        """What a question is answered. Raises `DatabaseError`."""

        async def ask(connection: Any) -> list[Row]:
            cursor = await by(deadline, connection.execute(statement.encode(), values))
            return list(await cursor.fetchall())

        return await self._by(ask, deadline)

    async def _by[T](self, step: Callable[[Any], Awaitable[T]], deadline: float) -> T:
        try:
            async with self._database.connection(deadline) as connection:
                found = await step(connection)
        except DatabaseError as error:
            self._stores.tell("postgresql", str(error))
            raise
        self._stores.is_well("postgresql")
        return found


class Articles:
    """The routes of the content service."""

    def __init__(self, cache: Cache, store: Store, wake: Callable[[], None], timeout_s: float) -> None:
        """``wake`` is told of each change: there is a job to publish."""
        self._cache = cache
        self._store = store
        self._wake = wake
        self._timeout_s = timeout_s
        self._create_body = msgspec.json.Decoder(Create)
        self._update_body = msgspec.json.Decoder(Update)

    def add_routes(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/articles", self.catalogue, name="catalogue")
        app.router.add_post("/articles", self.create, name="create")
        app.router.add_get("/articles/{id:[^/]+}", self.read, name="read")
        app.router.add_put("/articles/{id:[^/]+}", self.update, name="update")

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Write a new article."""
        deadline = self._deadline()
        body = await body_from(request, self._create_body, deadline)
        answer = await self._changed(CREATE, body.article, body.op, {"body": body.body}, deadline)
        return json_response({"article": body.article, **answer}, status=201)

    async def update(self, request: web.Request) -> web.StreamResponse:
        """Replace the version that the author knows."""
        article, deadline = id_from(request), self._deadline()
        body = await body_from(request, self._update_body, deadline)
        values = {"body": body.body, "expected": body.version}
        return json_response(await self._changed(UPDATE, article, body.op, values, deadline))

    async def read(self, request: web.Request) -> web.StreamResponse:
        """An article, as it was `cache_ttl_s` ago at the worst."""
        article, deadline = id_from(request), self._deadline()
        row, source = await self._cache.read(article, deadline), "cache"
        if row is None:
            asked_at = time.time()
            row, source = await self._stored(article, deadline), "database"
            if row is None:
                raise Refusal(404, "missing")
            await self._cache.fill(article, row, asked_at, deadline)
        version, op, body = row
        return json_response({"article": article, "version": version, "op": op, "body": body, "source": source})

    async def catalogue(self, _: web.Request) -> web.StreamResponse:
        """The articles that were changed last, the newest first; never from the cache."""
        found = await self._asked(CATALOGUE, (), self._deadline())
        return json_response({"articles": [{"article": article, "version": version} for article, version in found]})

    async def _changed(
        self, statement: str, article: str, op: str, values: dict[str, Any], deadline: float
    ) -> dict[str, Any]:
        """Version and job of a change, once it is committed. Raises `Refusal`."""
        job = job_of(article, op)
        named = values | {"article": article, "op": op, "job": job}
        row = await self._written(statement, named, deadline) or await self._written(AGAIN, named, deadline)
        if row is None:
            stored = await self._stored(article, deadline)
            raise Refusal(404, "missing") if stored is None else Refusal(409, "conflict", version=stored[0])
        self._wake()
        await self._cache.drop(article, deadline)
        return {"version": row[0], "job": job}

    async def _written(self, statement: str, values: Mapping[str, Any], deadline: float) -> Row | None:
        try:
            return await self._store.written(statement, values, deadline)
        except DatabaseError as error:
            raise Refusal(503, "database", "unknown") from error

    async def _stored(self, article: str, deadline: float) -> Row | None:
        found = await self._asked(READ, (article,), deadline)
        return found[0] if found else None

    async def _asked(self, statement: str, values: Sequence[Any], deadline: float) -> list[Row]:
        try:
            return await self._store.asked(statement, values, deadline)
        except DatabaseError as error:
            raise Refusal(503, "database") from error  # a question has no effect

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s


class Renditions:
    """What the worker does with a job: counts the article's words, in a row of the job's own."""

    def __init__(self, store: Store, metrics: ContentMetrics) -> None:
        self._store = store
        self._metrics = metrics

    async def make(self, job: str, _redelivered: bool) -> None:  # noqa: FBT001  as the server flags it
        """Returns once the job's row is committed. Raises `NotNowError`, or `UnfitError` of what is no job."""
        article = article_of(job)
        if not article:
            raise UnfitError
        deadline = asyncio.get_running_loop().time() + WORK_TIMEOUT_S
        try:
            await self._store.written(WORK, {"job": job, "article": article}, deadline)
        except DatabaseError as error:
            raise NotNowError from error
        self._metrics.worked.inc()


def _mover(outbox: Outbox, database: Database, metrics: OutboxMetrics) -> Mover:
    """What publishes jobs; it makes all tables of the service, and closes the database at its end."""
    broker = Broker(outbox.rabbitmq, user=outbox.user, password=password_in(outbox.rabbitmq_password_file))
    return Mover(rows_of(outbox.queue, JOBS, columns=JOB_COLUMNS, beside=TABLES), database, broker, metrics)


def _worker(outbox: Outbox, renditions: Renditions) -> Consumer:
    """The consumer of jobs."""
    password = password_in(outbox.rabbitmq_password_file)
    return Consumer(outbox.rabbitmq, outbox.queue, renditions.make, user=outbox.user, password=password)


async def serve(config: Config) -> None:
    """Serve articles until a signal comes. Raises `ConfigError`."""
    if config.outbox is None:
        raise ConfigError("outbox: expected where articles and jobs are kept")
    registry = new_registry()
    cluster = cluster_of(config, registry)
    metrics, jobs = ContentMetrics(registry), OutboxMetrics(registry)
    database = database_of(config.outbox)
    mover = _mover(config.outbox, database, jobs)
    store = Store(database, metrics)
    worker = _worker(config.outbox, Renditions(store, metrics))

    def changed() -> None:
        jobs.written.inc()
        mover.wake()

    routes = RequestMetrics(registry, ("catalogue", "create", "read", "update"))
    service = Service(config, registry, lambda: cluster.ready and mover.made)
    app = service.application(routes)
    Articles(Cache(cluster, config.cache_ttl_s, metrics), store, changed, config.timeout_s).add_routes(app)
    mover.open()
    await service.start(app)
    await cluster.open()
    worker.open()
    await wait_for_signal()
    await service.stop()
    await worker.finish()
    await mover.close()
    await cluster.close()


if __name__ == "__main__":
    sys.exit(main(serve))
