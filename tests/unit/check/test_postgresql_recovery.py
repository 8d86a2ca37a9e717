"""Recovery of PostgreSQL: how long nobody could write, by each way, and how much of that was the operator's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from resilience.check.finding import Finding
from resilience.check.headline import headline
from resilience.check.postgresql.recovery import NAME, recovery_of_rows
from resilience.check.way import WORDS
from resilience.history.record import Event
from resilience.history.way import WAYS, Way, way_of
from resilience.spec.fault import FastRestart, Partition
from resilience.spec.postgresql import AnyStandbys, FirstStandbys
from resilience.spec.scenario import Scenario
from resilience.spec.stack import Member
from tests.histories import (
    APPLIED,
    BEGAN,
    END,
    ETCD,
    POSTGRESQL,
    RECOVERY,
    Recorded,
    S,
    baseline,
    by_patroni,
    recorded,
    scenario,
    under,
)

TIER = ("postgresql",)
ABOUT = scenario(tiers=TIER)
ABOUT_CUT_OFF = scenario(tiers=TIER, fault=Partition(cut_from="clients"))
OPERATOR, PROMOTED = APPLIED + 10 * S, APPLIED + 11 * S


def with_pgbouncer() -> Scenario:
    member = Member(name="pgbouncer-0", component="pgbouncer", node="node-1")
    return replace(ABOUT, stack=replace(ABOUT.stack, members=(*ABOUT.stack.members, member)))


def hit(*members: str, promoted: bool = False, whole: bool = True) -> Recorded:
    """A run whose fault was done to these members, too, after which perhaps somebody promoted a standby."""
    run = recorded(tiers=TIER)
    run.change("injected", members=[*run.event("injected").data["members"], *members])
    if promoted:
        run.events.append(Event("role", PROMOTED, {"member": POSTGRESQL[1], "group": 0, "role": "primary", "epoch": 2}))
        told = {"member": POSTGRESQL[1], "former": POSTGRESQL[0], "timeline": 2, "operator_delay_s": 10.0}
        run.events.append(Event("promoted", PROMOTED, told | {"began_us": OPERATOR}))
        if whole:
            run.events.append(Event("promotion", PROMOTED + S, told | {"began_us": OPERATOR, "led_us": PROMOTED + S}))
    return run


def away(run: Recorded, start: int, length_us: int, ways: tuple[Way, ...] = WAYS) -> Recorded:
    """No row that is due in this time is written on these ways."""
    for op in run.of("postgresql.write"):
        if start <= op.due < start + length_us and way_of(op.key) in ways:
            op.end("fail", 3_000, "refused")
    return run


def judged(run: Recorded, folder: Path, about: Scenario = ABOUT) -> dict[str, Finding]:
    findings = recovery_of_rows(about, run.history(folder, about))
    return {finding.title.partition(" were")[0].partition(" could")[0]: finding for finding in findings}


def test_an_operators_delay_is_told_apart_from_the_recovery(tmp_path: Path) -> None:
    run = away(hit(POSTGRESQL[0], promoted=True), APPLIED, 12 * S)
    found = judged(run, tmp_path)
    assert {finding.verdict for finding in found.values()} == {"pass"}
    through = found[WORDS["pgbouncer"]]
    assert through.title == f"rows through a PgBouncer were written again after the primary {POSTGRESQL[0]} was hit"
    measures = {name.removeprefix(f"{NAME}."): value for name, value in through.measures.items()}
    assert measures["outage_s"] == pytest.approx(12.1, abs=0.1)
    assert measures["operator_s"] == pytest.approx(10)
    assert measures["promoted_s"] == pytest.approx(11)
    assert measures["first_good_write_s"] == pytest.approx(12.05, abs=0.1)
    assert measures["recovery_s"] == pytest.approx(measures["first_good_write_s"] - 10)
    assert "the operator began after 10.00 s, another primary 11.00 s" in through.measured


def test_the_first_line_says_how_long_people_waited_and_how_much_of_that_for_a_person(tmp_path: Path) -> None:
    run = away(hit(POSTGRESQL[0], promoted=True), APPLIED, 12 * S)
    findings = tuple(judged(run, tmp_path).values())
    assert headline("pass", findings) == (
        "pass: no rows of PostgreSQL for 12.10 s, 10.00 s of it until the operator began;"
        " 2 findings of checks and objectives, all within bounds"
    )
    assert "operator" not in headline("pass", [])


@pytest.mark.parametrize("whole", [True, False], ids=["to its end", "broken off"])
def test_a_promotion_explains_an_outage_also_where_its_runbook_was_broken_off(tmp_path: Path, whole: bool) -> None:
    run = away(hit(promoted=True, whole=whole), APPLIED, 12 * S)
    titles = {one.title.partition(" after ")[2] for one in judged(run, tmp_path).values()}
    assert titles == {"another primary was promoted by hand"}


def test_how_few_standbys_were_left_is_told(tmp_path: Path) -> None:
    titles = {one.title for one in judged(hit(*POSTGRESQL[1:]), tmp_path, under(AnyStandbys())).values()}
    assert {title.partition(" after ")[2] for title in titles} == {"commits wait for 1 standby, and 0 were left"}


def test_each_way_is_judged_for_itself(tmp_path: Path) -> None:
    """PgBouncers are led elsewhere later than those who ask the members themselves."""
    run = away(hit(POSTGRESQL[0], promoted=True), APPLIED, 12 * S)
    found = judged(away(run, APPLIED, 15 * S, ("pgbouncer",)), tmp_path)
    lengths = {words: finding.measures[f"{NAME}.outage_s"] for words, finding in found.items()}
    assert lengths[WORDS["pgbouncer"]] == pytest.approx(15.1, abs=0.1)
    assert lengths[WORDS["direct"]] == pytest.approx(12.1, abs=0.1)


def test_a_primary_that_is_back_before_the_operator_begins_waited_for_nobody(tmp_path: Path) -> None:
    for finding in judged(away(hit(POSTGRESQL[0], promoted=True), APPLIED, 3 * S), tmp_path).values():
        assert f"{NAME}.operator_s" not in finding.measures
        assert finding.measures[f"{NAME}.recovery_s"] == finding.measures[f"{NAME}.first_good_write_s"]


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    run: Callable[[], Recorded]
    about: Scenario = field(default_factory=lambda: ABOUT)
    fails: tuple[Way, ...] = ()
    unsure: tuple[Way, ...] = ()
    says: str = ""


LONG = RECOVERY - BEGAN
CASES = (
    Case(name="nothing happened", run=hit),
    Case(name="hit, and nobody noticed", run=lambda: hit(POSTGRESQL[0]), unsure=WAYS, says="the fault had no effect"),
    Case(name="hit, and nobody noticed on one way", unsure=("direct",), says="the fault had no effect",
         run=lambda: away(hit(POSTGRESQL[0]), BEGAN, LONG, ("pgbouncer",))),
    Case(name="cut off from clients, and nobody noticed", run=lambda: hit(POSTGRESQL[0]), unsure=WAYS,
         about=ABOUT_CUT_OFF, says="the fault had no effect"),
    Case(name="back before anybody noticed", run=lambda: hit(POSTGRESQL[0]),
         about=scenario(tiers=TIER, fault=FastRestart())),
    Case(name="cut off from peers alone", run=lambda: hit(POSTGRESQL[0]),
         about=scenario(tiers=TIER, fault=Partition(cut_from="peers"))),
    Case(name="hit, and written again", run=lambda: away(hit(POSTGRESQL[0]), BEGAN, LONG)),
    Case(name="hit, and never written again", run=lambda: away(hit(POSTGRESQL[0]), BEGAN, END), fails=WAYS,
         says="no row was written in the last"),
    Case(name="never again through PgBouncers", fails=("pgbouncer",), says="no row was written in the last",
         run=lambda: away(away(hit(POSTGRESQL[0]), BEGAN, LONG), BEGAN, END, ("pgbouncer",))),
    Case(name="left alone, a second", run=lambda: away(hit(), BEGAN, 800_000)),
    Case(name="left alone, and away", run=lambda: away(hit(), BEGAN, 1_100_000), fails=WAYS,
         says="which nothing excuses"),
    Case(name="a standby hit under async", run=lambda: away(hit(POSTGRESQL[1]), BEGAN, LONG), fails=WAYS,
         says="which nothing excuses"),
    Case(name="a standby hit under any 1", run=lambda: away(hit(POSTGRESQL[1]), BEGAN, LONG), fails=WAYS,
         about=under(AnyStandbys()), says="which nothing excuses"),
    Case(name="both hit under any 1", run=lambda: away(hit(*POSTGRESQL[1:]), BEGAN, LONG), about=under(AnyStandbys())),
    Case(name="a standby hit under first 2", run=lambda: away(hit(POSTGRESQL[1]), BEGAN, LONG),
         about=under(FirstStandbys())),
    Case(name="waiting for ever under first 2", run=lambda: away(hit(POSTGRESQL[1]), BEGAN, END), fails=WAYS,
         about=under(FirstStandbys()), says="no row was written in the last"),
    Case(name="a standby hit that nobody waits for", run=lambda: away(hit(POSTGRESQL[1]), BEGAN, LONG), fails=WAYS,
         about=under(FirstStandbys(), "local"), says="which nothing excuses"),
    Case(name="a standby cut off, and promoted", run=lambda: away(hit(POSTGRESQL[1], promoted=True), PROMOTED, 3 * S)),
    Case(name="one of etcd hit", run=lambda: away(hit(*ETCD[:1]), BEGAN, LONG), about=by_patroni(ABOUT), fails=WAYS,
         says="which nothing excuses"),
    Case(name="etcd's majority hit", run=lambda: away(hit(*ETCD[1:]), BEGAN, LONG), about=by_patroni(ABOUT)),
    Case(name="etcd's majority hit, and never again", run=lambda: away(hit(*ETCD[1:]), BEGAN, END),
         about=by_patroni(ABOUT), fails=WAYS, says="no row was written in the last"),
    Case(name="a PgBouncer hit", run=lambda: away(hit("pgbouncer-0"), BEGAN, LONG, ("pgbouncer",)),
         about=with_pgbouncer()),
    Case(name="a PgBouncer hit, and felt by others", run=lambda: away(hit("pgbouncer-0"), BEGAN, LONG),
         about=with_pgbouncer(), fails=("direct",), says="which nothing excuses"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_must_be_said_of_an_outage(case: Case, tmp_path: Path) -> None:
    found = judged(case.run(), tmp_path, case.about)
    assert set(found) == set(WORDS.values())
    not_passed = {words: finding.verdict for words, finding in found.items() if finding.verdict != "pass"}
    unsure = {WORDS[way]: "inconclusive" for way in case.unsure}
    assert not_passed == {WORDS[way]: "fail" for way in case.fails} | unsure
    assert all(case.says in found[words].reason for words in not_passed)
    assert {finding.where.group for finding in found.values()} == {"postgresql"}


def test_without_rows_of_a_way_nothing_is_known_of_it(tmp_path: Path) -> None:
    run = away(hit(POSTGRESQL[0]), BEGAN, LONG)
    run.ops = [op for op in run.ops if op.kind != "postgresql.write" or way_of(op.key) == "direct"]
    found = judged(run, tmp_path)
    assert {words: finding.verdict for words, finding in found.items()} == {
        WORDS["pgbouncer"]: "inconclusive",
        WORDS["direct"]: "pass",
    }


def test_without_a_fault_nothing_excuses_an_outage(tmp_path: Path) -> None:
    about = replace(baseline(), stack=ABOUT.stack, load=ABOUT.load)
    run = away(recorded(fault=False, tiers=TIER), 30 * S, 2 * S)
    assert {finding.verdict for finding in judged(run, tmp_path, about).values()} == {"fail"}
