"""The JSON documents of a run's directory: ``spec.json``, ``servers.json`` and ``verdict.json``, each with a schema.

``schema`` grows when a field changes its meaning or goes; new fields may come at any time.
"""

from typing import Any, Final

import msgspec

from resilience.check.finding import Finding, Judgement, Verdict
from resilience.report.order import control_text
from resilience.spec.fingerprint import Fingerprint
from resilience.spec.scenario import Scenario

SCHEMA: Final = 1


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was made with, besides its scenario: enough to repeat it."""

    revision: str  # of the harness, e.g. "24cfa9d" or "24cfa9d-dirty"
    versions: dict[str, str]  # of tools and servers, by name
    host: dict[str, Any]  # the machine: kernel, CPUs, memory, boot id …
    rerun: str  # the exact command that repeats the run
    fingerprint: Fingerprint | None = None  # of the run as a control, or of the control that it needs


class SpecFile(msgspec.Struct, frozen=True, kw_only=True):
    """What ``spec.json`` holds: all that was known before the run began."""

    schema: int
    scenario: Scenario
    seed: int
    revision: str
    versions: dict[str, str]
    host: dict[str, Any]
    started_utc: str  # ISO 8601
    rerun: str
    fingerprint: Fingerprint | None = None  # None: written before there were controls


class ServersFile(msgspec.Struct, frozen=True, kw_only=True):
    """What ``servers.json`` holds: for each member what it answered when it was asked for its configuration."""

    schema: int
    members: dict[str, dict[str, Any]]


class VerdictFile(msgspec.Struct, frozen=True, kw_only=True):
    """What ``verdict.json`` holds: the judgement, and of what it is one. The charts are in ``timeline.json``."""

    schema: int
    scenario: str
    title: str
    verdict: Verdict
    headline: str
    findings: tuple[Finding, ...]
    measures: dict[str, float]
    seed: int
    revision: str
    versions: dict[str, str]
    host: dict[str, Any]
    started_utc: str
    rerun: str
    control: str = ""  # which one it rests on, how that ended, how old it was

    def judgement(self) -> Judgement:
        """The judgement that was saved."""
        return Judgement(
            scenario=self.scenario,
            verdict=self.verdict,
            headline=self.headline,
            findings=self.findings,
            measures=self.measures,
        )


def verdict_file(judgement: Judgement, spec: SpecFile) -> VerdictFile:
    """A judgement together with the run that it is of."""
    return VerdictFile(
        schema=SCHEMA,
        scenario=judgement.scenario,
        title=spec.scenario.title,
        verdict=judgement.verdict,
        headline=judgement.headline,
        findings=judgement.findings,
        measures=judgement.measures,
        seed=spec.seed,
        revision=spec.revision,
        versions=spec.versions,
        host=spec.host,
        started_utc=spec.started_utc,
        rerun=spec.rerun,
        control=control_text(judgement),
    )
