"""Golden runs are judged as they were."""

import pytest

from resilience.check.finding import Judgement
from tests.golden.renew import HERE, RUNS, rejudged, saved

VERDICTS = {"failover": "pass", "split-brain": "fail", "no-effect": "inconclusive"}


def test_every_recording_is_in_the_table() -> None:
    assert {path.name for path in HERE.iterdir() if (path / "spec.json").exists()} == set(RUNS) == set(VERDICTS)


@pytest.mark.parametrize("name", RUNS)
def test_judged_as_it_was(name: str) -> None:
    judgement: Judgement = rejudged(HERE / name)
    assert judgement.verdict == VERDICTS[name]
    assert judgement == saved(HERE / name)


@pytest.mark.parametrize(
    ("name", "measures"),
    [
        ("failover", {"durability.lost_ops": 3, "durability.lost_outside_window_ops": 0}),
        ("split-brain", {"durability.lost_ops": 25, "durability.lost_outside_window_ops": 25}),
        ("no-effect", {"durability.lost_ops": 0, "recovery.outage_s": 0}),
    ],
)
def test_what_was_measured(name: str, measures: dict[str, float]) -> None:
    found = rejudged(HERE / name).measures
    assert {key: found[key] for key in measures} == measures
