"""Transactions on lists: each anomaly alone is told with its ops, and what level and durability allow is no fail."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from resilience.check import lists as checked
from resilience.check.compose import checks_of, judge
from resilience.check.finding import Finding
from resilience.check.lists import NAME, TITLE, lists
from resilience.errors import SpecError
from resilience.history.record import ACKED_LOCALLY, ListRead
from resilience.history.transaction import KIND, TABLE, Step, Told, text_of, told_text
from resilience.runner import require_known_checks
from resilience.spec.load import Isolation
from resilience.spec.scenario import Scenario
from resilience.spec.weakness import KnownWeakness
from tests.histories import (
    APPLIED,
    BEGAN,
    POSTGRESQL,
    STEADY,
    Op,
    Recorded,
    S,
    recorded,
    scenario,
    synchronous,
    taken_over,
    with_lists,
)

TIER = ("postgresql",)
PLAIN = scenario(tiers=TIER)
ABOUT = changed(PLAIN, load=changed(PLAIN.load, postgresql_list_rate_ops_per_s=10))
SYNCHRONOUS = synchronous(ABOUT)
AT = STEADY + 5 * S
PROMOTED = APPLIED + 5 * S
LATE = BEGAN - S // 2
OVER = ("pg-list-3-0", "pg-list-3-1")  # those that stand over the failover


def at_level(about: Scenario, level: Isolation) -> Scenario:
    return changed(about, load=changed(about.load, postgresql_list_isolation=level))


def whole() -> Recorded:
    """A run as it should be, whose fault was done to the primary, with another promoted 5 s later."""
    run = with_lists(recorded(tiers=TIER))
    taken_over(run, PROMOTED)
    return run


def judged(run: Recorded, folder: Path, about: Scenario = ABOUT) -> Finding:
    (finding,) = lists(about, run.history(folder, about))
    return finding


class Story:
    """Transactions on lists of their own, and what is stored of these in the end."""

    def __init__(self, run: Recorded) -> None:
        self.run, self.id = run, 1 + max(op.id for op in run.ops if op.client == "postgresql")

    def add(self, at: int, told: str, outcome: str = "ok", error: str = "", level: str = "serializable") -> Op:
        """``x+1 y=2,3``: it appends 1 to x, and reads 2 and 3 of y."""
        steps, contents = [], []
        for word in told.split():
            key, read, content = word.partition("=")
            contents += [content] if read else []
            name, _, value = key.partition("+")
            steps.append(Step(f"pg-list-{name}", value))
        phase = "steady" if at < BEGAN else "fault" if at < APPLIED + 20 * S else "recovery"
        op = Op("postgresql", self.id, KIND, TABLE, text_of(steps), 0, phase, at, at)
        op.end(outcome, 5_000, error)
        op.stood = told_text(Told(level, tuple(contents))) if outcome != "fail" else ""
        self.id += 1
        self.run.ops.append(op)
        return op

    def stored(self, **contents: str) -> None:
        for key, content in contents.items():
            self.run.lists.append(ListRead(f"pg-list-{key}", content, POSTGRESQL[0], 1))


def dirty_write(story: Story) -> None:
    story.add(AT, "x+a y+b")
    story.add(AT, "x+c y+d")
    story.stored(x="a,c", y="d,b")


def aborted_read(story: Story) -> None:
    story.add(AT, "x+a", "fail", "40001")
    story.add(AT, "x=a")


def intermediate_read(story: Story) -> None:
    story.add(AT, "x+a x+b")
    story.add(AT, "x=a")
    story.stored(x="a,b")


def circular(story: Story) -> None:
    story.add(AT, "x+a y=b")
    story.add(AT, "y+b x=a")
    story.stored(x="a", y="b")


def incompatible(story: Story) -> None:
    story.add(AT, "x+a")
    story.add(AT, "x+b")
    story.add(AT + S, "x=b")
    story.stored(x="a,b")


def duplicate(story: Story) -> None:
    story.add(AT, "x+a")
    story.stored(x="a,a")


def own_append(story: Story) -> None:
    story.add(AT, "x+a x=")
    story.stored(x="a")


def from_nowhere(story: Story) -> None:
    story.stored(x="a")


def refused_but_there(story: Story) -> None:
    story.add(AT, "x+a", "fail", "25006")
    story.stored(x="a")


def lost(story: Story) -> None:
    story.add(AT, "x+a")


def vanished(story: Story) -> None:
    """One of unknown outcome was read, and is not there in the end."""
    story.add(AT, "x+a", "unknown", "lost")
    story.add(AT + S, "x=a")


def partly_there(story: Story) -> None:
    story.add(AT, "x+a y+b", "unknown", "lost")
    story.stored(x="a")


def read_skew(story: Story) -> None:
    story.add(AT, "x+a y+b")
    story.add(AT, "x=a y=")
    story.stored(x="a", y="b")


def long_fork(story: Story) -> None:
    story.add(AT, "x+a")
    story.add(AT, "y+b")
    story.add(AT, "x=a y=")
    story.add(AT, "x= y=b")
    story.stored(x="a", y="b")


def write_skew(story: Story) -> None:
    story.add(AT, "x= y+b")
    story.add(AT, "y= x+a")
    story.stored(x="a", y="b")


@dataclass(frozen=True, kw_only=True)
class Case:
    change: Callable[[Story], None]
    says: str
    ops: int  # that are named
    from_level: Isolation = "read committed"  # the weakest that does not allow it


CASES = (
    Case(change=dirty_write, ops=2, says="1 G0: postgresql/{1} appended c to pg-list-x after postgresql/{0};"
         " postgresql/{0} appended b to pg-list-y after postgresql/{1}"),
    Case(change=aborted_read, ops=2, says="1 G1a: postgresql/{1} read a of pg-list-x, which postgresql/{0} had rolled"),
    Case(change=intermediate_read, ops=2, says="1 G1b: postgresql/{1} read a of pg-list-x as the last, to which"),
    Case(change=circular, ops=2, says="1 G1c: postgresql/{1} read a of pg-list-x from postgresql/{0};"),
    Case(change=incompatible, ops=1, says="postgresql/{2} read pg-list-x up to b, which does not go with what"),
    Case(change=duplicate, ops=0, says="1 duplicate: a stands in pg-list-x more than once"),
    Case(change=own_append, ops=1, says="1 own append: postgresql/{0} read pg-list-x as if its own append of a had"),
    Case(change=from_nowhere, ops=0, says="1 from nowhere: a of pg-list-x was appended by nobody on record"),
    Case(change=refused_but_there, ops=1, says="a of postgresql/{0} is stored in pg-list-x, and was rolled back"),
    Case(change=lost, ops=1, says="1 lost append: a of postgresql/{0} is not stored in pg-list-x"),
    Case(change=vanished, ops=1, says="1 lost append: a of postgresql/{0} is not stored in pg-list-x"),
    Case(change=partly_there, ops=1, says="b of postgresql/{0} is not stored in pg-list-y, and what else it"),
    Case(change=read_skew, ops=2, from_level="repeatable read", says="1 G-single: postgresql/{1} read a of pg-list-x"
         " from postgresql/{0}; postgresql/{1} did not see b of pg-list-y by postgresql/{0}"),
    Case(change=long_fork, ops=4, from_level="repeatable read", says="1 G-nonadjacent: "),
    Case(change=write_skew, ops=2, from_level="serializable", says="1 G2-item: postgresql/{0} did not see a of"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.change.__name__)
def test_exactly_this_is_found(case: Case, tmp_path: Path) -> None:
    run = with_lists(recorded(tiers=TIER))
    story = Story(run)
    first = story.id
    case.change(story)
    about = at_level(SYNCHRONOUS, case.from_level)
    (finding,) = (one for one in judge(about, run.history(tmp_path, about)).findings if one.verdict != "pass")
    assert (finding.verdict, finding.check, finding.where.group) == ("fail", NAME, "postgresql")
    assert finding.title == f"1 anomaly that {case.from_level} does not allow"
    assert case.says.format(*range(first, first + 4)) in finding.reason
    (item,) = finding.evidence
    named = set(filter(None, item["ops"].split(", ")))
    assert named <= {f"postgresql/{number}" for number in range(first, story.id)}
    assert len(named) == case.ops
    assert (finding.value, finding.measures[f"{NAME}.forbidden_ops"]) == (1, 1)


WEAKER: dict[Isolation, Isolation] = {"repeatable read": "read committed", "serializable": "repeatable read"}


@pytest.mark.parametrize("case", [case for case in CASES if case.from_level in WEAKER],
                         ids=lambda case: case.change.__name__)  # fmt: skip
def test_what_a_level_allows_is_told_and_no_fail(case: Case, tmp_path: Path) -> None:
    run = whole()
    case.change(Story(run))
    finding = judged(run, tmp_path, at_level(SYNCHRONOUS, WEAKER[case.from_level]))
    assert (finding.verdict, finding.value, finding.title) == ("pass", 0, TITLE)
    assert "; allowed: 1 G" in finding.measured
    assert finding.allowed == f"what {WEAKER[case.from_level]} allows"
    measured = {name for name, number in finding.measures.items() if number == 1}
    assert measured & {f"{NAME}.g_single_ops", f"{NAME}.g_nonadjacent_ops", f"{NAME}.g2_item_ops"}


def test_all_fits(tmp_path: Path) -> None:
    finding = judged(whole(), tmp_path)
    assert (finding.verdict, finding.reason, finding.value) == ("pass", "", 0)
    assert finding.measured == (
        "0 in 620 transactions, 0 rolled back, 0 of unknown outcome of which 0 were committed; 620 reads, 350 of them"
        " after the failover on 2 of 2 lists that had been appended to before"
    )
    assert finding.allowed == "what serializable allows, and what a failover may take back"
    assert finding.measures[f"{NAME}.met_ops"] == 310
    assert finding.measures[f"{NAME}.read_after_failover_ops"] == 350


def test_one_of_unknown_outcome_is_settled_by_what_is_stored(tmp_path: Path) -> None:
    run = whole()
    story = Story(run)
    story.add(AT, "x= y+b", "unknown", "timeout")
    story.add(AT, "y= x+a")
    story.stored(x="a", y="b")
    finding = judged(run, tmp_path, SYNCHRONOUS)
    assert (finding.verdict, finding.measures[f"{NAME}.settled_ops"]) == ("fail", 1)
    assert "1 G2-item" in finding.reason
    run.lists = [line for line in run.lists if line.key != "pg-list-y"]
    finding = judged(run, tmp_path / "gone", SYNCHRONOUS)
    assert (finding.verdict, finding.measures[f"{NAME}.settled_ops"]) == ("pass", 0)


def test_one_of_which_only_its_call_is_on_record(tmp_path: Path) -> None:
    run = whole()
    story = Story(run)
    op = story.add(AT, "x=a x+b", "unknown")
    op.returned = None
    story.stored(x="b")
    assert judged(run, tmp_path, SYNCHRONOUS).verdict == "pass"


def taken_back(run: Recorded, at: int, outcome: str = "ok", error: str = "") -> Story:
    """A transaction that was read is not there any more after the failover."""
    story = Story(run)
    story.add(AT, "x+a")
    story.add(at, "x+b y+c", outcome, error)
    story.add(at + 10_000, "x=a,b")
    story.add(PROMOTED + S, "x+d y=")
    story.add(PROMOTED + 2 * S, "x=a,d")
    story.stored(x="a,d")
    return story


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
def test_a_failover_may_take_back_what_async_may_lose(outcome: str, tmp_path: Path) -> None:
    run = whole()
    taken_back(run, LATE, outcome)
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.measures[f"{NAME}.taken_back_ops"]) == ("pass", 1)
    assert (
        finding.reason == "1 transaction taken back that may be: acknowledged within 1 s before the fault, or locally"
    )


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
def test_what_was_there_long_before_may_not_be_taken_back(outcome: str, tmp_path: Path) -> None:
    run = whole()
    taken_back(run, BEGAN - 2 * S, outcome)
    finding = judged(run, tmp_path)
    assert finding.verdict == "fail"
    assert "1 incompatible order, 1 lost append" in finding.reason


def test_what_was_sent_after_the_fault_may_not_be_taken_back(tmp_path: Path) -> None:
    """A former primary that goes on alone."""
    run = whole()
    taken_back(run, APPLIED + S)
    assert judged(run, tmp_path).verdict == "fail"


def test_where_a_commit_waits_for_a_standby_nothing_may_be_taken_back(tmp_path: Path) -> None:
    run = whole()
    taken_back(run, LATE)
    finding = judged(run, tmp_path, SYNCHRONOUS)
    assert (finding.verdict, finding.allowed) == ("fail", "what serializable allows")


def test_what_was_acknowledged_locally_may_be_gone(tmp_path: Path) -> None:
    run = whole()
    taken_back(run, AT + S, error=ACKED_LOCALLY)
    assert judged(run, tmp_path, SYNCHRONOUS).verdict == "pass"


def test_a_server_that_ran_them_at_less_than_was_asked_for(tmp_path: Path) -> None:
    run = whole()
    Story(run).add(AT, "x=", level="read committed")
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.value) == ("fail", 1)
    assert finding.title == "transactions were run at less than serializable"
    assert finding.reason == "1 transaction ran at read committed, serializable was asked for"
    assert judged(run, tmp_path / "asked for", at_level(ABOUT, "read committed")).verdict == "pass"


def test_without_the_audit_what_was_read_is_judged_and_losses_are_not(tmp_path: Path) -> None:
    run = whole()
    run.lists, run.audited = [], [kind for kind in run.audited if kind != "lists"]
    finding = judged(run, tmp_path, SYNCHRONOUS)
    assert (finding.verdict, "assumption.lists-audited" in finding.rests_on) == ("pass", True)
    about = changed(SYNCHRONOUS, checks=(NAME,), slos=())
    (found,) = [one for one in judge(about, run.history(tmp_path / "all", about)).findings if one.check == NAME]
    assert found.verdict == "inconclusive"
    assert "the lists audit did not come to its end" in found.reason
    circular(Story(run))
    run.lists = []
    (found,) = [one for one in judge(about, run.history(tmp_path / "bad", about)).findings if one.check == NAME]
    assert found.verdict == "fail"


def forget(run: Recorded, gone: Callable[[Op], bool]) -> Recorded:
    run.ops = [op for op in run.ops if op.kind != KIND or not gone(op)]
    there = {step for op in run.ops if op.kind == KIND for step in op.value.split()}
    run.lists = [
        replace_content(line, [value for value in line.content.split(",") if f"{line.key}+{value}" in there])
        for line in run.lists
    ]
    return run


def replace_content(line: ListRead, values: list[str]) -> ListRead:
    return changed(line, content=",".join(values))


def late_on(op: Op, keys: tuple[str, ...]) -> bool:
    return op.called > PROMOTED and any(key in op.value for key in keys)


def unanswered_late(run: Recorded) -> Recorded:
    """What was asked of the lists that stood over the failover was not answered since."""
    asked = [op for op in run.ops if op.kind == KIND and late_on(op, OVER)]
    for op in asked:
        op.end("fail", 1_000, "57P03")
        op.stood = ""
    gone = {word.partition("+")[2] for op in asked for word in op.value.split()}
    run.lists = [
        replace_content(line, [value for value in line.content.split(",") if value not in gone]) for line in run.lists
    ]
    return run


@dataclass(frozen=True, kw_only=True)
class Little:
    name: str
    run: Callable[[], Recorded]
    says: str


LITTLE = (
    Little(name="nothing", run=lambda: forget(whole(), lambda _: True),
           says="no transaction on lists is on record that was committed"),
    Little(name="nothing after the failover", run=lambda: forget(whole(), lambda op: op.called > PROMOTED),
           says="no list that had been appended to before the fault was asked for after the failover"),
    Little(name="in vain after the failover", run=lambda: unanswered_late(whole()),
           says="of 2 lists that had been appended to before it 0 were read after the failover"),
    Little(name="one after the other", run=lambda: one_after_the_other(whole()),
           says="no two transactions were under way at the same time"),
)  # fmt: skip


def one_after_the_other(run: Recorded) -> Recorded:
    for number, op in enumerate(op for op in run.ops if op.kind == KIND):
        op.due = op.called = op.due + number % 2 * 50_000
        op.end("ok", 1_000)
    return run


@pytest.mark.parametrize("case", LITTLE, ids=lambda case: case.name)
def test_too_little_is_no_pass(case: Little, tmp_path: Path) -> None:
    finding = judged(case.run(), tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", case.says)


def test_nothing_that_is_both_appended_to_and_read(tmp_path: Path) -> None:
    run = forget(whole(), lambda _: True)
    story = Story(run)
    story.add(AT, "x+a")
    story.add(AT, "y=")
    story.stored(x="a")
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "no list was both appended to and read")


def test_values_that_cannot_be_told_apart(tmp_path: Path) -> None:
    run = whole()
    Story(run).add(AT, "x+0.0")
    finding = judged(run, tmp_path)
    assert finding.verdict == "inconclusive"
    assert finding.reason == "1 value appended more than once: whose they are cannot be told"


@pytest.mark.parametrize(("bound", "says"), [
    ("STEPS_MAX", "1,240 appends and reads are on record, and at most 1,000 are judged"),
    ("CHARACTERS_MAX", "characters were read, and at most 1,000 are judged"),
])  # fmt: skip
def test_what_takes_too_long_is_not_judged(
    bound: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checked, bound, 1_000)
    finding = judged(whole(), tmp_path)
    assert finding.verdict == "inconclusive"
    assert says in finding.reason


def test_a_load_without_lists_is_not_judged_by_them(tmp_path: Path) -> None:
    """As every run was before there were any: judged again it has the findings that it had."""
    run = recorded(tiers=TIER)
    assert NAME not in {finding.check for finding in judge(PLAIN, run.history(tmp_path, PLAIN)).findings}
    assert set(checks_of(ABOUT)) - set(checks_of(PLAIN)) == {NAME}
    with pytest.raises(SpecError, match=r"checks: expected one of"):
        require_known_checks(changed(PLAIN, checks=(NAME,)))
    require_known_checks(changed(ABOUT, checks=(NAME,)))


def test_a_whole_run_with_lists_is_a_pass(tmp_path: Path) -> None:
    run = with_lists(recorded(tiers=TIER))
    judgement = judge(ABOUT, run.history(tmp_path, ABOUT))
    assert [finding for finding in judgement.findings if finding.verdict != "pass"] == []
    assert {"assumption.lists-audited", NAME} <= {finding.check for finding in judgement.findings}


def test_a_known_weakness_of_lists(tmp_path: Path) -> None:
    weakness = KnownWeakness(
        finding=NAME, within={f"{NAME}.g2_item_ops": (1, 5)}, seen="always", why="known", durability="wait"
    )
    about = changed(SYNCHRONOUS, known_weaknesses=(weakness,), checks=(NAME,), slos=())
    run = with_lists(recorded(tiers=TIER))
    write_skew(Story(run))
    judgement = judge(about, run.history(tmp_path, about))
    assert judgement.verdict == "pass"
    assert "known weakness, seen again: postgresql: 1 anomaly that serializable does not allow" in judgement.headline


def test_what_a_read_was_told_and_is_not_on_record_shows_nothing(tmp_path: Path) -> None:
    run = whole()
    for op in run.ops:
        if op.kind == KIND and op.outcome == "ok" and op.stood is not None:
            op.stood = op.stood.partition("|")[0]
    finding = judged(run, tmp_path)
    assert finding.verdict == "inconclusive", finding
    assert "it is not on record what each read was told" in finding.reason
