"""The content service of a stack: articles in PostgreSQL, a cache of them in Redis, and a job for each change."""

from typing import Annotated

from msgspec import Meta

from resilience.spec.rabbitmq import QueueName
from resilience.spec.record import Record

WORK_QUEUE: QueueName = "content-processing"  # where the service publishes its jobs, and its workers take them


class Content(Record, frozen=True, kw_only=True):
    """The service as HarmonyFlow runs it.

    A read that begins ``cache_ttl_s`` after a write was acknowledged is not older than that write: so long a cached
    copy is valid, from the moment at which the database was asked for it.
    """

    cache_ttl_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    program: Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)*\Z", max_length=200)] = (
        "services.content"  # a Python module of the project, as in `Programs`
    )
