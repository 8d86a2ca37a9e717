"""A suite: a named list of runs, each with what it is expected to end with."""

from typing import Annotated, Literal

from msgspec import Meta, field

from resilience.spec.record import Record
from resilience.spec.scenario import Scenario

Text = Annotated[str, Meta(min_length=1, max_length=500)]
Setting = bool | int | float | Text
Series = Annotated[str, Meta(pattern=r"\A(|[0-9]{1,3}\.[0-9]{1,3})\Z", max_length=7)]
Major = Annotated[str, Meta(pattern=r"\A(|[0-9]{1,3})\Z", max_length=3)]
# of a check, an assumption, an objective
Name = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9.-]*\Z", min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Meta(max_length=50)]


class Expectation(Record, frozen=True, kw_only=True):
    """What a run has to end with to count as passed in its suite.

    ``by`` are the findings that must have made a verdict which is no pass: of a fail those that fail (a known weakness
    does not), of an inconclusive run the assumptions that do not hold, or what is not sure by itself. Every one of them
    has to, and no other may, but for those in ``besides``, which lie so near to their bounds that a run may do either,
    or depend on what the servers are not bound to: a pass with ``besides`` may as well be a fail by nothing but these.
    ``measures`` bounds numbers of the judgement, each to [least, most] in the measure's own unit; one that was not
    measured is not within its bound. ``redis`` is the series of Redis whose numbers these are, ``8.0``, ``rabbitmq``
    likewise, ``postgresql`` the major version, ``17``: another one may do as well and yet otherwise, so they say
    nothing about it. Raises `ValueError` for bounds without any, and for a verdict that says not what it is by.
    """

    verdict: Literal["pass", "fail", "inconclusive"] = "pass"
    by: Names = ()
    besides: Names = ()
    measures: Annotated[dict[str, tuple[float, float]], Meta(max_length=50)] = field(default_factory=dict)
    redis: Series = ""
    rabbitmq: Series = ""
    postgresql: Major = ""

    def __post_init__(self) -> None:
        if self.measures and not self.series:
            raise ValueError('measures are those of a server: name its series, redis: "8.0"')
        if self.verdict == "pass" and self.by:
            raise ValueError("a pass is by no finding: give the verdict, or leave by out")
        if self.verdict != "pass" and not self.by:
            example = "slo.recovery-time" if self.verdict == "fail" else "assumption.fault-proved"
            raise ValueError(f"any run may end with {self.verdict}: name what it has to be by, by: [{example}]")
        if len({*self.by, *self.besides}) < len(self.by) + len(self.besides):
            raise ValueError("expected every finding once in by and besides")

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What the run may end with."""
        return ("pass", "fail") if self.verdict == "pass" and self.besides else (self.verdict,)

    @property
    def series(self) -> dict[str, str]:
        """The series of each server that it is about, by component."""
        named = {"redis": self.redis, "rabbitmq": self.rabbitmq, "postgresql": self.postgresql}
        return {component: series for component, series in named.items() if series}


class SuiteRun(Record, frozen=True, kw_only=True):
    """One run of a suite: a scenario with changes (`spec.override`), under a title of its own."""

    scenario: Text
    title: Annotated[str, Meta(max_length=500)] = ""
    set: dict[Text, Setting] = field(default_factory=dict)
    expect: Expectation = Expectation()

    @property
    def overrides(self) -> tuple[str, ...]:
        """The changes as the command line takes them."""
        return overrides_of(self.set)


class Suite(Record, frozen=True, kw_only=True):
    """A named list of runs, in their order; ``scenarios`` are what they resolve to, one for each."""

    name: str
    title: str
    runs: tuple[SuiteRun, ...]
    scenarios: tuple[Scenario, ...]


def overrides_of(settings: dict[str, Setting]) -> tuple[str, ...]:
    """Fields and values of a file's ``set`` as the command line takes them: ``redis.appendonly=false``."""
    return tuple(f"{name}={_as_typed(value)}" for name, value in settings.items())


def _as_typed(value: Setting) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
