"""What became of PostgreSQL's acknowledged rows: each defect alone is found, in its class, and nothing else is."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resilience.check.compose import checks_of, judge
from resilience.check.durability.postgresql import book, postgresql
from resilience.check.finding import Finding, Judgement
from resilience.errors import SpecError
from resilience.history.columns import FAIL, OK, UNKNOWN, Ops, TableRows, text_array
from resilience.history.read import History, read_history
from resilience.history.record import ACKED_LOCALLY, Event, RowRead
from resilience.runner import require_known_checks
from resilience.spec.fault import CutReplication, Pause, Prelude, Target
from resilience.spec.postgresql import AnyStandbys, Asynchronous, Durability, FirstStandbys
from resilience.spec.read import read_scenario
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import APPLIED, POSTGRESQL, SLOS, Op, Recorded, S, recorded, scenario, under

ROOT = Path(__file__).resolve().parents[3]
TIER = ("postgresql",)
ABOUT = scenario(tiers=TIER)
BEFORE, EARLY, LATE = APPLIED - S // 2, APPLIED - 3 * S, APPLIED + 3 * S


def whole(*members: str) -> Recorded:
    """A run as it should be, whose fault was done to these members of PostgreSQL."""
    run = recorded(tiers=TIER)
    run.change("injected", members=[*run.event("injected").data["members"], *members])
    if POSTGRESQL[0] in members:
        promotion = {"member": POSTGRESQL[1], "group": 0, "role": "primary", "epoch": 2}
        run.events.append(Event("role", APPLIED + 5 * S, promotion))
        run.rows = [replace(row, member=POSTGRESQL[1], timeline=2) for row in run.rows]
    return run


def hit() -> Recorded:
    return whole(POSTGRESQL[0])


def back_by_itself(run: Recorded) -> None:
    """Nobody else was the primary meanwhile."""
    run.events = [one for one in run.events if one.data.get("epoch") != 2 or one.data.get("group") != 0]


def acked_about(run: Recorded, instant: int) -> Op:
    """The acknowledged row whose answer came first after an instant."""
    return next(op for op in run.good("postgresql.write") if (op.returned or 0) >= instant)


def lose(instant: int) -> Callable[[Recorded], None]:
    return lambda run: run.lose(acked_about(run, instant))


def store(run: Recorded, op: Op, value: str) -> None:
    """The table holds another value under the op's key."""
    run.rows = [replace(row, value=value) if row.key == op.key else row for row in run.rows]


def judged(run: Recorded, folder: Path, about: Scenario = ABOUT) -> Finding:
    (finding,) = postgresql(about, run.history(folder, about))
    return finding


def text(finding: Finding) -> str:
    return " | ".join((finding.title, finding.measured, finding.reason, str(finding.evidence)))


def end_early(run: Recorded, outcome: str, error: str = "") -> None:
    acked_about(run, EARLY).end(outcome, 3_000, error)


def twice(run: Recorded) -> None:
    op = acked_about(run, EARLY)
    run.rows.append(RowRead(op.key, op.value, POSTGRESQL[0], 1))


def elsewhere(run: Recorded) -> None:
    """The value of an unknown write stands under the key of nobody."""
    op = acked_about(run, EARLY)
    op.end("unknown", 3_000, "timeout")
    run.lose(op)
    run.rows.append(RowRead("pg:other", op.value, POSTGRESQL[0], 1))


def not_looked_for(run: Recorded) -> None:
    """The audit has no answer about its key, which is no loss but an audit that is not whole."""
    op = acked_about(run, EARLY)
    run.rows = [row for row in run.rows if row.key != op.key]


def refused_and_gone(run: Recorded) -> None:
    op = acked_about(run, EARLY)
    op.end("fail", 3_000, "25006")
    run.lose(op)


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: Callable[[Recorded], object]
    says: str
    verdict: str = "fail"


CASES = (
    Case(name="lost early", change=lose(EARLY), says="1 acknowledged row lost, acknowledged 2.952 s before the fault"),
    Case(name="lost after the fault", change=lose(LATE), says="after the fault took effect"),
    Case(name="phase of a loss", change=lose(EARLY), says="lost of phases: 1 in steady"),
    Case(name="lost in the window", change=lose(BEFORE), says="which async replication allows", verdict="pass"),
    Case(name="twice in the table", change=twice, says="stands in the table more than once"),
    Case(name="under another key", change=elsewhere, says="which was written to pg:"),
    Case(name="of nobody", change=lambda run: run.rows.append(RowRead("pg:0", "who-1", POSTGRESQL[0], 1)),
         says="holds who-1, which nobody wrote"),
    Case(name="refused but there", change=lambda run: end_early(run, "fail", "25006"), says="1 refused but there"),
    Case(name="refused and gone", change=refused_and_gone, says="0 of 1,239 acknowledged rows lost", verdict="pass"),
    Case(name="acknowledged and not looked for", change=not_looked_for, says="0 of 1,240 acknowledged rows lost",
         verdict="pass"),
    Case(name="unknown and there", change=lambda run: end_early(run, "unknown", "timeout"),
         says="0 of 1,239 acknowledged rows lost, 1 recovered", verdict="pass"),
    Case(name="acknowledged locally and there", change=lambda run: end_early(run, "ok", ACKED_LOCALLY),
         says="0 of 1,239 acknowledged rows lost, 0 recovered; 0 of 1 acknowledged locally gone", verdict="pass"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("prelude", "acked", "verdict", "allowed"),
    [
        (Pause(), APPLIED - S, "pass", "from 1 s before the fault's prelude until the fault"),
        (CutReplication(), APPLIED - S, "fail", "within 1 s before standbys were cut off"),
        (CutReplication(), APPLIED - S // 2, "fail", "within 1 s before standbys were cut off"),
        (CutReplication(), APPLIED - 5 * S // 2, "pass", "within 1 s before standbys were cut off"),
    ],
    ids=["a standby stood still", "in the cut", "as it was killed", "before the cut"],
)
def test_what_was_acknowledged_while_standbys_were_cut_off_is_lost_like_any_other(
    prelude: Pause | CutReplication, acked: int, verdict: str, allowed: str, tmp_path: Path
) -> None:
    """They were cut off for 2 s before the primary was killed."""
    assert ABOUT.experiment is not None
    cut = Prelude(fault=prelude, target=Target(component="postgresql", role="replica"), for_s=2.0)
    about = replace(ABOUT, experiment=replace(ABOUT.experiment, prelude=cut))
    run = hit()
    run.change("injected", began_us=APPLIED - 2 * S)
    run.lose(acked_about(run, acked))
    finding = judged(run, tmp_path, about)
    assert (finding.verdict, finding.allowed) == (verdict, f"only acknowledged {allowed}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_this_is_found(case: Case, tmp_path: Path) -> None:
    run = hit()
    case.change(run)
    finding = judged(run, tmp_path)
    assert finding.verdict == case.verdict
    assert case.says in text(finding)
    assert (finding.check, finding.where.group) == ("durability.postgresql", "postgresql")


def test_every_row_is_there(tmp_path: Path) -> None:
    finding = judged(hit(), tmp_path)
    assert (finding.verdict, finding.title) == ("pass", "every acknowledged row is there")
    assert finding.measured == "0 of 1,240 acknowledged rows lost, 0 recovered"
    assert finding.allowed == "only acknowledged within 1 s before the fault"


@pytest.mark.parametrize(
    ("about", "members", "verdict"),
    [
        (ABOUT, POSTGRESQL[:1], "pass"),
        (ABOUT, POSTGRESQL[1:], "fail"),  # the fault was done to the standbys
        (under(AnyStandbys()), POSTGRESQL[:1], "fail"),
        (under(FirstStandbys()), POSTGRESQL[:1], "fail"),
        (under(FirstStandbys(), "remote_write"), POSTGRESQL[:1], "fail"),
        (under(AnyStandbys(), "local"), POSTGRESQL[:1], "pass"),
        (under(AnyStandbys(), "off"), POSTGRESQL[:1], "pass"),
    ],
    ids=["async", "standbys hit", "any 1", "first 2", "remote write", "local", "off"],
)
def test_where_a_loss_just_before_the_fault_is_allowed(
    about: Scenario, members: tuple[str, ...], verdict: str, tmp_path: Path
) -> None:
    run = whole(*members)
    lose(BEFORE)(run)
    assert judged(run, tmp_path, about).verdict == verdict


@pytest.mark.parametrize(("commit", "verdict"), [("on", "fail"), ("local", "fail"), ("off", "pass")])
def test_a_primary_that_comes_back_has_what_it_acknowledged(commit: str, verdict: str, tmp_path: Path) -> None:
    """Unless it acknowledges before it has written: then the last part of a second may be gone."""
    run = hit()
    back_by_itself(run)
    lose(BEFORE)(run)
    assert judged(run, tmp_path, under(Asynchronous(), commit)).verdict == verdict


def test_redis_durability_says_nothing_of_postgresql(tmp_path: Path) -> None:
    about = under(AnyStandbys())
    run = hit()
    lose(BEFORE)(run)
    finding = judged(run, tmp_path, about)
    assert finding.allowed == "none lost"
    assert finding.measures["durability.lost_outside_window_ops"] == 1


def test_what_was_acknowledged_locally_is_no_loss_of_an_acknowledged_write(tmp_path: Path) -> None:
    """Of 20 commits whose wait for a standby was cancelled 15 are gone: counted, named, and no fail."""
    run, about = hit(), under(AnyStandbys())
    cancelled = [op for op in run.good("postgresql.write") if (op.returned or 0) >= APPLIED][:20]
    for op in cancelled:
        op.end("ok", 5_000, ACKED_LOCALLY)
    for op in cancelled[5:]:
        run.lose(op)
    finding = judged(run, tmp_path, about)
    assert (finding.verdict, finding.title) == ("pass", "every acknowledged row is there")
    assert finding.measured == "0 of 1,220 acknowledged rows lost, 0 recovered; 15 of 20 acknowledged locally gone"
    assert finding.reason == "15 gone that were acknowledged locally, which promises no more"
    assert {item["what"] for item in finding.evidence} == {"gone, acknowledged locally"}
    assert [item["value"] for item in finding.evidence] == [op.value for op in cancelled[5:]]
    assert finding.evidence_total == 15
    assert finding.measures["durability.lost_ops"] == 0
    assert finding.measures["durability.postgresql.acked_locally_ops"] == 20
    assert finding.measures["durability.postgresql.lost_locally_ops"] == 15
    locally = finding.measures["durability.postgresql.acked_locally_ops"]
    assert finding.measures["durability.postgresql.kept_locally_ops"] == locally - 15


@pytest.mark.parametrize(
    ("locally", "kept", "missed"),
    [
        (40, 4, set()),
        (39, 0, {"slo.postgresql-acknowledged-locally"}),
        (0, 0, {"slo.postgresql-acknowledged-locally"}),
        (40, 5, {"slo.postgresql-kept-locally"}),
    ],
    ids=["just enough, and nearly all gone", "just too few", "nobody was cancelled", "a standby had them"],
)
def test_the_scenario_in_which_waits_are_cancelled_shows_what_becomes_of_them(
    locally: int, kept: int, missed: set[str], tmp_path: Path
) -> None:
    ours = tuple(slo for slo in read_scenario(ROOT, "postgresql-cancel-waiting").slos if "locally" in slo.name)
    about = replace(under(AnyStandbys()), slos=ours, checks=("durability.postgresql",))
    run = hit()
    cancelled = [op for op in run.good("postgresql.write") if (op.returned or 0) >= APPLIED][:locally]
    for op in cancelled:
        op.end("ok", 5_000, ACKED_LOCALLY)
    for op in cancelled[kept:]:
        run.lose(op)
    judgement = judge(about, run.history(tmp_path, about))
    assert {finding.check for finding in judgement.findings if finding.verdict == "fail"} == missed
    assert judgement.verdict == ("fail" if missed else "pass")


def test_a_run_that_was_acknowledged_nothing_but_locally_is_no_pass(tmp_path: Path) -> None:
    run = hit()
    for op in run.good("postgresql.write"):
        op.end("ok", 5_000, ACKED_LOCALLY)
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "nothing was acknowledged that could be lost")


@pytest.mark.parametrize(("earlier", "verdict"), [(0, "inconclusive"), (1, "pass")])
def test_a_fault_that_found_no_acknowledged_row_took_none(earlier: int, verdict: str, tmp_path: Path) -> None:
    run = hit()
    before = [op for op in run.good("postgresql.write") if (op.returned or 0) <= APPLIED]
    for op in before[earlier:]:
        op.end("fail", 3_000, "53300")
        run.lose(op)
    finding = judged(run, tmp_path)
    assert finding.verdict == verdict
    assert ("before the fault" in finding.reason) == (verdict == "inconclusive")


def test_losses_by_phase_and_age(tmp_path: Path) -> None:
    """A primary that was cut off went on for 5 s; all of that is gone, and two rows from before."""
    run = hit()
    for op in run.good("postgresql.write"):
        if APPLIED < op.due < APPLIED + 5 * S:
            run.lose(op)
    lose(EARLY)(run)
    lose(BEFORE)(run)
    finding = judged(run, tmp_path)
    assert finding.verdict == "fail"
    assert finding.measures["durability.lost_ops"] == 102
    assert finding.measures["durability.lost_in_window_ops"] == 1
    assert finding.measures["durability.postgresql.lost_in_steady_ops"] == 2
    assert finding.measures["durability.postgresql.lost_in_fault_ops"] == 100
    assert finding.measures["durability.postgresql.lost_in_recovery_ops"] == 0
    assert finding.measures["durability.lost_oldest_s"] == pytest.approx(2.952)
    assert finding.measures["durability.lost_newest_s"] == pytest.approx(-4.998)
    assert finding.measures["durability.postgresql.acked_in_window_ops"] == 100  # until another was promoted
    assert "101 of 102 lost writes were acknowledged outside" in finding.reason


def test_who_took_over_ends_the_window(tmp_path: Path) -> None:
    run = hit()
    role = {"member": POSTGRESQL[1], "group": 0, "role": "primary"}
    run.events.append(Event("role", APPLIED + S, role))
    assert judged(run, tmp_path).measures["durability.postgresql.acked_in_window_ops"] == 20


@pytest.mark.parametrize(
    ("dead", "place", "verdict"),
    [(True, -1, "pass"), (False, -1, "fail"), (True, -2, "fail")],
    ids=["the last of a dead client", "the last of one that told its totals", "the last but one of a dead client"],
)
def test_a_row_that_is_there_and_not_on_record(dead: bool, place: int, verdict: str, tmp_path: Path) -> None:
    run = hit()
    run.ops.remove(run.good("postgresql.write")[place])
    if dead:
        del run.summaries["postgresql"]
    finding = judged(run, tmp_path)
    assert finding.verdict == verdict
    assert ("1 recovered" in finding.measured) == (verdict == "pass")


def test_without_a_write_nothing_is_judged(tmp_path: Path) -> None:
    assert judged(Recorded(), tmp_path).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: run.audited.remove("postgresql"), "the postgresql audit did not come to its end"),
        (lambda run: setattr(run, "rows", run.rows[1:]), "1 rows that were acknowledged were not looked for"),
        (
            lambda run: setattr(run, "rows", [replace(row, member=POSTGRESQL[0], timeline=1) for row in run.rows]),
            "rows were read from postgresql-primary-0 on timeline 1, and timeline 2 had been seen",
        ),
    ],
    ids=["no end", "a key that was not asked for", "what a stray has"],
)
def test_a_loss_in_an_incomplete_audit_is_not_one(
    change: Callable[[Recorded], object], reason: str, tmp_path: Path
) -> None:
    run = hit()
    lose(EARLY)(run)
    change(run)
    found = {finding.check: finding for finding in whole_judgement(run, tmp_path).findings}
    assert found["durability.postgresql"].verdict == "inconclusive"
    assert reason in found["durability.postgresql"].reason
    assert "otherwise fail" in found["durability.postgresql"].reason
    assert found["durability.direct"].verdict == "pass"  # what Redis holds was read to its end


def test_what_a_stray_has_is_no_pass_either(tmp_path: Path) -> None:
    run = hit()
    run.rows = [replace(row, member=POSTGRESQL[0], timeline=1) for row in run.rows]
    judgement = whole_judgement(run, tmp_path)
    found = {finding.check: finding for finding in judgement.findings}
    assert found["durability.postgresql"].verdict == judgement.verdict == "inconclusive"


def test_a_table_that_is_not_there_has_lost_all_that_was_acknowledged(tmp_path: Path) -> None:
    run = hit()
    run.rows = [replace(row, value=None) for row in run.rows]
    found = {finding.check: finding for finding in whole_judgement(run, tmp_path).findings}
    assert found["durability.postgresql"].verdict == "fail"
    assert found["durability.postgresql"].measured == "1,240 of 1,240 acknowledged rows lost, 0 recovered"


def whole_judgement(run: Recorded, folder: Path, about: Scenario = ABOUT) -> Judgement:
    slos = tuple(slo for slo in SLOS if slo.name != "durability")  # it speaks of the same loss once more
    checks = tuple(name for name in checks_of(about) if name != "recovery.postgresql")  # nobody misses the primary here
    about = replace(about, slos=slos, checks=checks)
    return judge(about, run.history(folder, about))


def test_nobody_saw_the_primary(tmp_path: Path) -> None:
    """A loss in the window proves nothing then, one outside of every window does."""
    run = hit()
    run.events = [event for event in run.events if event.name != "role" or event.data["group"]]
    lose(BEFORE)(run)
    found = {finding.check: finding for finding in whole_judgement(run, tmp_path / "1").findings}
    assert found["durability.postgresql"].verdict == "inconclusive"
    assert found["assumption.postgresql-known"].reason == "which member is the primary was not seen"
    lose(EARLY)(run)
    found = {finding.check: finding for finding in whole_judgement(run, tmp_path / "2").findings}
    assert found["durability.postgresql"].verdict == "fail"


WEAK = KnownWeakness(
    finding="durability.postgresql", within={"durability.lost_ops": (1, 10)}, seen="always", why="known"
)


def test_a_known_weakness_of_postgresql(tmp_path: Path) -> None:
    run, about = hit(), replace(ABOUT, known_weaknesses=(WEAK,))
    lose(EARLY)(run)
    judgement = whole_judgement(run, tmp_path, about)
    assert judgement.verdict == "pass"
    said = "pass: known weakness, seen again: postgresql: 1 acknowledged row lost, acknowledged 2.952 s before"
    assert judgement.headline.startswith(said)


@pytest.mark.parametrize(
    ("durability", "mode", "verdict"),
    [
        (AnyStandbys(), "wait", "pass"),
        (AnyStandbys(), "async", "fail"),
        (None, "async", "pass"),
        (None, "wait", "fail"),
    ],
)
def test_a_weakness_of_one_mode_is_one_of_postgresqls(
    durability: Durability | None, mode: str, verdict: str, tmp_path: Path
) -> None:
    about = under(durability) if durability else ABOUT  # Redis is asynchronous in both
    weakness = replace(WEAK, durability=mode)
    run = hit()
    lose(EARLY)(run)
    judgement = whole_judgement(run, tmp_path, replace(about, known_weaknesses=(weakness,)))
    assert judgement.verdict == verdict


def test_the_headline_of_a_loss_and_of_an_allowed_one(tmp_path: Path) -> None:
    run = hit()
    lose(BEFORE)(run)
    headline = whole_judgement(run, tmp_path / "1").headline
    assert headline.startswith("pass: 1 acknowledged write lost, acknowledged 0.452 s before")
    lose(EARLY)(run)
    headline = whole_judgement(run, tmp_path / "2").headline
    assert headline.startswith("fail: postgresql: 2 acknowledged rows lost, acknowledged 0.452 s to 2.952 s before")


def test_a_stack_without_postgresql_is_not_judged_by_it(tmp_path: Path) -> None:
    about = scenario()
    found = judge(about, recorded().history(tmp_path, about)).findings
    assert not [finding.check for finding in found if "postgresql" in finding.check]
    with pytest.raises(SpecError, match="expected one of"):
        require_known_checks(scenario(checks=("durability.postgresql",)))
    require_known_checks(scenario(checks=("durability.postgresql",), tiers=TIER))


WRITES = 100_000


@pytest.fixture(scope="module")
def long() -> History:
    """So many acknowledged rows, one a millisecond, all of them in the table."""
    numbers = np.arange(WRITES, dtype=np.int64)
    zeros = np.zeros(WRITES, dtype=np.int32)
    values, keys = [f"v{n}" for n in range(WRITES)], [f"k{n}" for n in range(WRITES)]
    ops = Ops(
        client=zeros, id=numbers + 1, kind=zeros, key=numbers.astype(np.int32), phase=zeros, error=zeros, group=zeros,
        stood=zeros, due=numbers * 1000, called=numbers * 1000, returned=numbers * 1000 + 500,
        outcome=np.full(WRITES, OK, dtype=np.int32), version=-1 + 0 * numbers, epoch=-1 + 0 * numbers,
        value=text_array(values), clients=("postgresql",), kinds=("postgresql.write",), keys=text_array(keys),
        phases=("steady",), errors=("", ACKED_LOCALLY), standing=("",),
    )  # fmt: skip
    rows = TableRows(
        key=numbers.astype(np.int32), value=text_array(values), there=np.ones(WRITES, dtype=np.bool_), source=zeros,
        sources=(("postgresql-primary-0", 1),),
    )  # fmt: skip
    nothing = read_history(Path("nowhere"))
    return dataclasses.replace(nothing, ops=ops, audit=dataclasses.replace(nothing.audit, rows=rows))


def planted(
    long: History, *, gone: list[int], values: dict[int, str], outcomes: dict[int, int], locally: list[int]
) -> History:
    """The history with rows that are not there, others that hold something else, and other outcomes of some ops."""
    ops, rows = long.ops, long.audit.rows
    outcome, error, value, there = ops.outcome.copy(), ops.error.copy(), rows.value.copy(), rows.there.copy()
    for number, code in outcomes.items():
        outcome[number] = code
    error[locally] = 1
    there[gone] = False
    for number, stored in values.items():
        value[number] = stored
    audit = dataclasses.replace(long.audit, rows=dataclasses.replace(rows, value=value, there=there))
    return dataclasses.replace(long, ops=dataclasses.replace(ops, outcome=outcome, error=error), audit=audit)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_one_row_in_100_000(data: st.DataObject, long: History) -> None:
    """Each kind of defect at a row of its own, all at once, in a history that is whole otherwise."""
    rows = st.lists(st.integers(0, WRITES - 1), min_size=9, max_size=9, unique=True)
    lost, copied, other, strange, refused, denied, recovered, vanished, local = data.draw(rows)
    outcomes = {refused: FAIL, denied: FAIL, recovered: UNKNOWN, vanished: UNKNOWN, copied: UNKNOWN, strange: UNKNOWN}
    booked = book(
        planted(
            long,
            gone=[lost, denied, vanished, local],
            values={copied: f"v{other}", strange: "who-1"},
            outcomes=outcomes,
            locally=[local],
        )
    )
    assert booked.lost.tolist() == [lost]
    assert booked.recovered.tolist() == [recovered]
    assert booked.acked_locally.tolist() == booked.lost_locally.tolist() == [local]
    assert {(defect.what, defect.key) for defect in booked.defects} == {
        ("duplicated", f"k{copied}"), ("unexpected", f"k{strange}"), ("refused but there", f"k{refused}"),
    }  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(lost=st.lists(st.integers(0, WRITES - 1), unique=True, max_size=50))
def test_every_lost_row_and_no_other(lost: list[int], long: History) -> None:
    booked = book(planted(long, gone=lost, values={}, outcomes={}, locally=[]))
    assert booked.lost.tolist() == sorted(lost)
    assert booked.defects == ()
