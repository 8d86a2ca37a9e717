"""Brings a stack whose processes run to its first good request, everything at the same time where it can be.

::

    Redis: form ─▶ ready ────────────────────────────────────────────────┐
    PostgreSQL: ready ───────────────────────────────────────────────────┤  where the stack has it
    RabbitMQ: one cluster ─▶ queues declared ─▶ ready ───────────────────┤  likewise
    services: /healthz ──────────────────────────────────────────────────┼─▶ create a session through an edge
    Prometheus: scraped ─────────────────────────────────────────────────┘
"""

import time
from uuid import uuid4

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.stack import postgresql, prometheus, rabbitmq, redis_cluster, service
from resilience.stack.ends import Ends
from resilience.stack.http_link import http_ask
from resilience.stack.wait import Pause, wait_all, wait_until

READY_TIMEOUT_S = 60.0  # what a whole stack is given
CREATED = 201


def stack_ready(platform: Platform, deadline: float) -> float:
    """Forms what has to be formed and waits until a session can be created; returns the seconds it took.

    ``deadline`` is a value of `time.monotonic`. Raises `StackError` that names each member that is not ready and why
    (its last answer), and each whose server ended meanwhile, with what its log ends with; before the deadline, if one
    ends again and again.
    """
    began = time.monotonic()
    ends = Ends(platform)

    def redis_ready(pause: Pause) -> None:
        redis_cluster.form(platform, deadline, pause)
        redis_cluster.wait_ready(platform, deadline, pause)

    def services_ready(pause: Pause) -> None:
        service.wait_ready(platform, deadline, pause)

    def prometheus_ready(pause: Pause) -> None:
        prometheus.wait_ready(platform, deadline, pause)

    def postgresql_ready(pause: Pause) -> None:
        postgresql.wait_ready(platform, deadline, pause)

    def rabbitmq_ready(pause: Pause) -> None:
        rabbitmq.form(platform, deadline, pause)
        rabbitmq.wait_ready(platform, deadline, pause)

    jobs = {"redis": redis_ready, "services": services_ready, "prometheus": prometheus_ready}
    if platform.stack.postgresql is not None:
        jobs["postgresql"] = postgresql_ready
    if platform.stack.rabbitmq is not None:
        jobs["rabbitmq"] = rabbitmq_ready
    try:
        wait_all(jobs, ends.too_many)
        first_request(platform, deadline)
    except StackError as error:
        raise StackError("; ".join((str(error), *ends.told()))) from error
    return time.monotonic() - began


def first_request(platform: Platform, deadline: float) -> float:
    """Creates a session through each edge in turn until one says that it is done; returns the seconds it took.

    The session is nobody else's, so no audit asks for it. Raises `StackError` with the last answers.
    """
    edges = [state for state in platform.states() if state.component == "edge"]
    name = uuid4().hex
    payload = {"session": f"s-{name}", "op": f"ready-{name}", "data": "ready"}

    def refused() -> str:
        reasons: list[str] = []
        for edge in edges:
            try:
                answer = http_ask(edge, "/sessions", timeout_s=2.0, method="POST", payload=payload)
            except StackError as error:
                reasons.append(str(error))
                continue
            if answer.status == CREATED:
                return ""
            reasons.append(str(answer))
        return "; ".join(reasons) or "the stack has no edge"

    return wait_until("the first good request", refused, deadline=deadline)
