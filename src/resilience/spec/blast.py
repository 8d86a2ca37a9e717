"""How far a scenario's fault may be felt: the key groups that may suffer, and how little the others may."""

from typing import Annotated

from msgspec import Meta

from resilience.spec.record import Record

CONTENT = "content"  # articles, which are on no shard
Group = Annotated[str, Meta(pattern=rf"^(shard [1-9][0-9]{{0,3}}|{CONTENT})\Z")]


class BlastRadius(Record, frozen=True, kw_only=True):
    """``may_suffer`` names key groups (``shard 1``, and ``content`` for articles). Every other one may be without an
    acknowledged write for at most ``others_outage_s_max`` at a stretch: with ``cluster-require-full-coverage`` all
    shards refuse from the moment a primary is declared dead to the promotion of its replica, about 1 s. That is once in
    a run: beside one stretch of that length each kind of op on it has to be served (`check.blast.SHARE_MAX`).
    """

    may_suffer: Annotated[tuple[Group, ...], Meta(max_length=100)]
    others_outage_s_max: Annotated[float, Meta(gt=0, le=3_600)] = 0.5
