"""How far a scenario's fault may be felt: who may suffer, and how little all others may."""

from typing import Annotated

from msgspec import Meta

from resilience.spec.record import Record

SESSION, COLLABORATION = "session", "collaboration"  # whose ops are on the shards of Redis
PERSONALIZATION, CONTENT = "personalization", "content"  # whose ops are on none
_SERVICES = f"{SESSION}|{COLLABORATION}|{PERSONALIZATION}|{CONTENT}"
Sufferer = Annotated[str, Meta(pattern=rf"^(shard [1-9][0-9]{{0,3}}|queue [a-z][a-z.-]{{0,60}}|{_SERVICES})\Z")]


class BlastRadius(Record, frozen=True, kw_only=True):
    """``may_suffer`` names key groups (``shard 1``), queues that the load publishes to (``queue session-events``) and
    services: of ``session`` and ``collaboration`` what people do on any shard, of ``content`` articles, of
    ``personalization`` suggestions and interests. What people do on a shard that may suffer may suffer with it.

    Every other key group may be without an acknowledged write for at most ``others_outage_s_max`` at a stretch, and
    every other queue's consumers without a message: with ``cluster-require-full-coverage`` all shards refuse from the
    moment a primary is declared dead to the promotion of its replica, about 1 s. That is once in a run: beside one
    stretch of that length each kind of op on it has to be served (`check.blast.SHARE_MAX`).
    """

    may_suffer: Annotated[tuple[Sufferer, ...], Meta(max_length=100)]
    others_outage_s_max: Annotated[float, Meta(gt=0, le=3_600)] = 0.5
