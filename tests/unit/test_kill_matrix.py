"""The table of the kill matrix: whole, and sampled by its seed."""

import pytest

from tests.scenario.kill_matrix import CELLS, PHASES, SEED_VARIABLE, VICTIMS, sample, seed_of


def test_every_victim_is_killed_in_each_phase_or_it_is_said_why_not() -> None:
    played = {(cell.victim.name, cell.phase) for cell in CELLS}
    for victim in VICTIMS.values():
        left_out = [phase for phase in PHASES if (victim.name, phase) not in played]
        assert left_out == [phase for phase in PHASES if phase not in victim.phases], victim.name
        assert bool(left_out) == bool(victim.elsewhere), victim.name


def test_a_verdict_that_is_no_pass_says_what_died() -> None:
    silent = [cell.name for cell in CELLS if cell.verdicts - {"pass"} and not (cell.finding and cell.says)]
    assert silent == []


@pytest.mark.parametrize("seed", range(20))
def test_the_sample_has_one_of_each_group(seed: int) -> None:
    groups = [cell.victim.group for cell in sample(seed)]
    assert groups == sorted({victim.group for victim in VICTIMS.values()})
    assert sample(seed) == sample(seed)


def test_another_seed_chooses_others() -> None:
    assert len({sample(seed) for seed in range(20)}) > 10


def test_a_seed_that_is_asked_for_is_taken() -> None:
    assert seed_of({SEED_VARIABLE: "7"}) == 7
    assert len({seed_of({}) for _ in range(20)}) > 1
