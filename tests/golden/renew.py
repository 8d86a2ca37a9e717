"""Renews the golden runs: their verdicts, or (``--record``) the recordings as well.

python -m tests.golden.renew             judge the recordings again and save what is found
python -m tests.golden.renew --record    write the recordings again, too: only when a file's format has changed
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from resilience.check.compose import judge
from resilience.check.finding import Judgement
from resilience.history.read import read_history
from resilience.report.document import SCHEMA, SpecFile, VerdictFile, verdict_file
from resilience.spec.fault import Noop, Partition
from resilience.spec.scenario import Scenario
from tests.histories import APPLIED, FINGERPRINT, IDENTITY, LOAD, Recorded, S, recorded, scenario

HERE = Path(__file__).parent
SMALL = msgspec.structs.replace(
    LOAD, session_rate_ops_per_s=5.0, edit_rate_ops_per_s=2.0, direct_rate_ops_per_s=5.0
)  # so that a recording is small
NOT_SEEN = {"in_effect": False, "evidence": [{"what": "identity", "expected": "new", "observed": "old", "ok": False}]}


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A recording: of which scenario, and what happened in it."""

    about: Scenario
    record: Callable[[], Recorded]


def _failover() -> Recorded:
    """A node is lost; the last writes before were under way to the replica and are gone, as async allows."""
    run = recorded(load=SMALL)
    for op in run.good("direct.write", 1):
        if op.returned is not None and APPLIED - S // 2 < op.returned < APPLIED:
            run.lose(op)
    return run


def _split_brain() -> Recorded:
    """A primary that is cut off from its peers goes on acknowledging for 5 s; all of that is lost."""
    run = recorded(load=SMALL)
    for op in run.of("direct.write", 1):
        if APPLIED < op.due < APPLIED + 5 * S:
            op.end("ok", 1_500)
            run.lose(op)
    return run


def _no_effect() -> Recorded:
    """The fault does nothing, everything works, and the probes say so."""
    run = recorded(load=SMALL, outage_us=0)
    run.drop("failing")
    run.drop("role", 6)  # after the six at the start
    for index in range(2):
        run.change("effect-probed", index, **NOT_SEEN)
    return run


def _about(name: str, base: Scenario) -> Scenario:
    return msgspec.structs.replace(base, name=name, load=SMALL)


RUNS: dict[str, Golden] = {
    "failover": Golden(about=_about("failover", scenario()), record=_failover),
    "split-brain": Golden(
        about=_about("split-brain", scenario(fault=Partition(cut_from="peers"))), record=_split_brain
    ),
    "no-effect": Golden(about=_about("no-effect", scenario(fault=Noop())), record=_no_effect),
}


def rejudged(directory: Path) -> Judgement:
    """The judgement of a recording by the checks as they are now."""
    return judge(_spec(directory).scenario, read_history(directory))


def saved(directory: Path) -> Judgement:
    """The judgement that is expected of it."""
    return msgspec.json.decode((directory / "verdict.json").read_bytes(), type=VerdictFile).judgement()


def renew(name: str, golden: Golden, *, record: bool) -> Judgement:
    """Saves the judgement of a golden run, recorded again first if that is asked for."""
    directory = HERE / name
    if record:
        golden.record().save(directory, golden.about)
        (directory / "spec.json").write_bytes(_pretty(_spec_file(golden.about)))
    judgement = rejudged(directory)
    (directory / "verdict.json").write_bytes(_pretty(verdict_file(judgement, _spec(directory))))
    return judgement


def _spec_file(about: Scenario) -> SpecFile:
    return SpecFile(
        schema=SCHEMA, scenario=about, seed=about.seed, revision="golden", versions={}, host={},
        started_utc=IDENTITY.started_utc, rerun=f"resilience run {about.name}", fingerprint=FINGERPRINT,
    )  # fmt: skip


def _spec(directory: Path) -> SpecFile:
    return msgspec.json.decode((directory / "spec.json").read_bytes(), type=SpecFile)


def _pretty(content: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def _renewed(*, record: bool) -> Iterator[str]:
    for name, golden in RUNS.items():
        before = None if record else saved(HERE / name)
        after = renew(name, golden, record=record)
        yield f"{name}: {'as it was' if before == after else 'changed'}: {after.headline}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in _renewed(record="--record" in sys.argv[1:]))
