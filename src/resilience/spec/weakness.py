"""A weakness of the platform that its people know of: a finding that is expected to fail, and how badly."""

from typing import Annotated, Literal

from msgspec import Meta

from resilience.spec.record import Record

VALUE = "value"  # in `KnownWeakness.within`: the finding's own number


class KnownWeakness(Record, frozen=True, kw_only=True):
    """One finding that may fail without the run failing, as long as it stays within its bound.

    ``finding`` is the name of a check or of an objective (``durability.direct``, ``slo.durability``), ``group`` narrows
    it to one place (``shard 1``, ``postgresql``, ``queue content-processing``). ``within`` bounds its measures, each to
    [least, most], in the measure's own unit; ``value`` means the finding's own number. ``always``: a run in which it is
    not seen is a fail, so that the entry is taken out once the weakness is mended. ``durability``: where the weakness
    is one of that mode alone; of a finding about PostgreSQL its own, where ``wait`` stands for every mode in which a
    commit waits for a standby.
    """

    finding: Annotated[str, Meta(min_length=1, max_length=200)]
    within: Annotated[dict[str, tuple[float, float]], Meta(min_length=1, max_length=50)]
    seen: Literal["always", "sometimes"]
    why: Annotated[str, Meta(min_length=1, max_length=500)]
    group: str = ""
    durability: Literal["async", "wait", "any"] = "any"
