"""Registers of PostgreSQL: each contradiction alone is found, with its ops, and what may be so is no fail."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resilience.check import registers as checked
from resilience.check.compose import checks_of, judge
from resilience.check.finding import Finding
from resilience.check.linearizability import INITIAL, NEVER, Step, search
from resilience.check.registers import NAME, registers
from resilience.errors import SpecError
from resilience.history.columns import OUTCOMES, Ops, text_array
from resilience.history.read import History, read_history
from resilience.history.record import ACKED_LOCALLY, MISMATCH, Event
from resilience.runner import require_known_checks
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
)

TIER = ("postgresql",)
ABOUT = scenario(tiers=TIER)
SYNCHRONOUS = synchronous(ABOUT)
AT = STEADY + 5 * S
PROMOTED = APPLIED + 5 * S
OVER = ("pg-register-3-0", "pg-register-3-1")  # those that stand over the failover


def whole() -> Recorded:
    """A run as it should be, whose fault was done to the primary, with another promoted 5 s later."""
    run = recorded(tiers=TIER)
    taken_over(run, PROMOTED)
    return run


def judged(run: Recorded, folder: Path, about: Scenario = ABOUT) -> Finding:
    (finding,) = registers(about, run.history(folder, about))
    return finding


class Story:
    """Ops on a register of its own, one after another where nothing else is said."""

    def __init__(self, run: Recorded, key: str = "pg-register-x") -> None:
        self.run, self.key, self.id = run, key, 1 + max(op.id for op in run.ops if op.client == "postgresql")

    def op(self, what: str, at: int, value: str = "", stood: str | None = None, **end: str) -> Op:
        phase = "steady" if at < BEGAN else "fault"
        self.id += 1
        one = Op("postgresql", self.id, f"register.{what}", self.key, value, 0, phase, at, at)
        one.end(end.get("outcome", "ok"), 1_000, end.get("error", ""))
        one.stood = stood
        self.run.ops.append(one)
        return one

    def write(self, at: int, value: str, outcome: str = "ok", error: str = "") -> Op:
        return self.op("write", at, value, outcome=outcome, error=error)

    def read(self, at: int, stood: str) -> Op:
        return self.op("read", at, stood=stood)

    def swap(self, at: int, value: str, stood: str, outcome: str = "ok", error: str = "") -> Op:
        return self.op("swap", at, value, stood, outcome=outcome, error=error)


def stale(story: Story) -> None:
    story.write(AT, "a")
    story.write(AT + S, "b")
    story.read(AT + 3 * S, "a")


def two_behind(story: Story) -> None:
    story.write(AT, "a")
    story.write(AT + S, "b")
    story.write(AT + 2 * S, "c")
    story.read(AT + 3 * S, "c")
    story.read(AT + 4 * S, "a")


def gone_again(story: Story) -> None:
    """An unknown write is read, and then it is not there."""
    story.write(AT, "a", outcome="unknown", error="timeout")
    story.read(AT + S, "a")
    story.read(AT + 2 * S, "")


def from_nowhere(story: Story) -> None:
    story.write(AT, "a", outcome="fail", error="25006")
    story.read(AT + S, "a")


def before_its_write(story: Story) -> None:
    story.read(AT, "a")
    story.write(AT + S, "a")


def over_something_else(story: Story) -> None:
    """A compare-and-set is carried out where its value had been overwritten."""
    story.write(AT, "a")
    story.write(AT + S, "b")
    story.swap(AT + 2 * S, "c", "a")


def both_carried_out(story: Story) -> None:
    """Of two compare-and-sets at the same time on one value both are carried out: only the search sees it."""
    story.write(AT, "a")
    story.swap(AT + S, "b", "a")
    story.swap(AT + S, "c", "a")


def missed(story: Story) -> None:
    """A compare-and-set misses a value that stands there from before to after it."""
    story.write(AT, "a")
    story.swap(AT + S, "b", "a", error=MISMATCH)
    story.read(AT + 2 * S, "a")


def unknown_swap_seen(story: Story) -> None:
    """A compare-and-set of unknown outcome was carried out, where its value never stood."""
    story.write(AT, "a")
    story.swap(AT + S, "b", "never", outcome="unknown", error="timeout")
    story.read(AT + 2 * S, "b")


@dataclass(frozen=True, kw_only=True)
class Case:
    change: Callable[[Story], None]
    says: str
    ops: int  # that are named


CASES = (
    Case(
        change=stale, ops=3, says="was told a, 1.999 s after b was there, 1 value behind, in phase steady (torn apart)"
    ),
    Case(change=two_behind, ops=3, says="was told a, 2.999 s after b was there, 2 values behind"),
    Case(change=gone_again, ops=2, says="was told nothing, 0.999 s after a was there"),
    Case(change=from_nowhere, ops=1, says="was told a, in phase steady (read from nowhere)"),
    Case(change=before_its_write, ops=2, says="was told a, in phase steady (read before its write)"),
    Case(change=over_something_else, ops=3, says="was told a, 0.999 s after b was there"),
    Case(change=both_carried_out, ops=2, says="was told a, in phase steady (no order explains it)"),
    Case(change=missed, ops=2, says="was told a, in phase steady (missed its value)"),
    Case(change=unknown_swap_seen, ops=2, says="was told b, in phase steady (no order explains it)"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.change.__name__)
def test_exactly_this_is_found(case: Case, tmp_path: Path) -> None:
    run = whole()
    story = Story(run)
    case.change(story)
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.check, finding.where.group) == ("fail", NAME, "postgresql")
    assert finding.title == "1 register answered what no order explains"
    assert case.says in finding.reason
    (item,) = finding.evidence
    assert item["key"] == story.key
    named = {item["op"], *filter(None, item["beside"].split(", "))}
    assert named <= {f"postgresql/{op.id}" for op in run.ops if op.key == story.key}
    assert len(named) == case.ops
    assert finding.measures[f"{NAME}.unexplained_ops"] == 1
    told_at = [op.returned for op in run.ops if op.key == story.key and item["op"] == f"postgresql/{op.id}"]
    assert told_at == [finding.where.start_us] == [finding.where.end_us]


def test_how_stale_is_a_measure(tmp_path: Path) -> None:
    run = whole()
    two_behind(Story(run, "one"))
    stale(Story(run, "other"))
    for op in run.ops:
        if op.key in {"one", "other"}:
            op.value = op.value and f"{op.key}-{op.value}"
            op.stood = op.stood and f"{op.key}-{op.stood}"
    finding = judged(run, tmp_path)
    assert finding.value == 2
    assert finding.measures[f"{NAME}.stale_s"] == pytest.approx(2.999)
    assert [item["behind"] for item in finding.evidence] == [2, 1]


def test_all_answers_have_an_order(tmp_path: Path) -> None:
    run = whole()
    story = Story(run)
    story.write(AT, "a")
    story.swap(AT + S, "b", "a", outcome="unknown", error="timeout")
    story.read(AT + 2 * S, "a")
    story.write(AT + 3 * S, "c", outcome="unknown", error="lost")
    story.read(AT + 4 * S, "c")
    story.read(AT + 5 * S, "b")  # it came late
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("fail", finding.reason)
    assert "was told b" in finding.reason  # but b was to come over a only, and a was over
    run.ops[-1].stood = "c"
    finding = judged(run, tmp_path / "again")
    assert (finding.verdict, finding.reason, finding.value) == ("pass", "", 0)
    assert finding.measured == (
        "0 of 19 registers contradict themselves, 626 ops, 375 reads, 210 of them after the failover"
        " on 2 of 2 that had been written before"
    )
    assert finding.measures[f"{NAME}.read_ops"] == 375
    assert finding.measures[f"{NAME}.read_after_failover_ops"] == 210


def test_a_swap_of_which_only_its_call_is_on_record_may_have_been_carried_out(tmp_path: Path) -> None:
    run = whole()
    story = Story(run)
    story.write(AT, "a")
    swap = story.swap(AT + S, "b", "a", outcome="unknown")
    swap.returned = None
    story.read(AT + 2 * S, "b")
    assert judged(run, tmp_path).verdict == "pass"


def back(run: Recorded, written_at: int) -> Story:
    """A write was acknowledged at an instant, and after the failover it had never been."""
    story = Story(run)
    story.write(AT, "a")
    story.write(written_at, "b")
    story.read(written_at + 2_000, "b")
    story.swap(APPLIED + 6 * S, "c", "b", error=MISMATCH)
    story.read(APPLIED + 7 * S, "a")
    return story


LATE = BEGAN - S // 2


def test_a_failover_may_take_back_what_async_may_lose(tmp_path: Path) -> None:
    run = whole()
    back(run, LATE)
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.allowed) == ("pass", "only what a failover may take back")
    assert "1 register went back to what stood there within 1 s before the fault, which async" in finding.reason
    assert finding.measures[f"{NAME}.went_back_ops"] == 1


def test_what_was_acknowledged_long_before_may_not_be_taken_back(tmp_path: Path) -> None:
    run = whole()
    back(run, BEGAN - 2 * S)
    finding = judged(run, tmp_path)
    assert finding.verdict == "fail"
    assert "was told a, 9.009 s after b was there" in finding.reason


def test_what_was_sent_after_the_fault_may_not_be_taken_back(tmp_path: Path) -> None:
    """A former primary that goes on alone: what it acknowledges is lost, and that is what a split brain is."""
    run = whole()
    back(run, APPLIED + S)
    assert judged(run, tmp_path).verdict == "fail"


def test_it_goes_back_once(tmp_path: Path) -> None:
    run = whole()
    story = back(run, LATE)
    story.read(APPLIED + 8 * S, "b")
    assert judged(run, tmp_path).verdict == "fail"


def test_where_a_commit_waits_for_a_standby_nothing_may_be_taken_back(tmp_path: Path) -> None:
    run = whole()
    back(run, LATE)
    finding = judged(run, tmp_path, SYNCHRONOUS)
    assert (finding.verdict, finding.allowed) == ("fail", "none")


def test_nobody_took_over(tmp_path: Path) -> None:
    run = whole()
    run.events = [event for event in run.events if event.data.get("epoch") != 2 or event.data.get("group") != 0]
    back(run, LATE)
    assert judged(run, tmp_path).verdict == "fail"


def test_what_was_acknowledged_locally_may_be_gone(tmp_path: Path) -> None:
    run = whole()
    story = Story(run)
    story.write(AT, "a")
    story.write(LATE, "b", error=ACKED_LOCALLY)
    story.read(APPLIED + 7 * S, "a")
    assert judged(run, tmp_path, SYNCHRONOUS).verdict == "pass"


def test_no_data_is_no_pass(tmp_path: Path) -> None:
    run = whole()
    run.ops = [op for op in run.ops if op.kind not in {"register.read", "register.swap"}]
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "no register was both written and read")
    finding = judged(Recorded(), tmp_path / "nothing")
    assert (finding.verdict, finding.reason) == ("inconclusive", "nothing is on record of any register")


def test_registers_that_were_written_and_others_that_were_read(tmp_path: Path) -> None:
    run = whole()
    run.ops = [op for op in run.ops if not op.kind.startswith("register.")]
    Story(run, "one").write(AT, "a")
    Story(run, "other").read(PROMOTED + S, "")
    finding = judged(run, tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive", "no register was both written and read")


def forget(run: Recorded, gone: Callable[[Op], bool]) -> Recorded:
    run.ops = [op for op in run.ops if not (op.kind.startswith("register.") and gone(op))]
    return run


def fail(run: Recorded, *keys: str) -> Recorded:
    """What these registers were asked for since the failover was not answered."""
    for op in run.ops:
        if op.key in keys and op.called > PROMOTED:
            op.end("fail", 1_000, "25006")
    return run


def with_one_more(run: Recorded) -> Recorded:
    """Another register was written before the fault, and asked for in vain since."""
    story = Story(run)
    story.write(AT, "more")
    story.op("read", PROMOTED + S, outcome="fail", error="25006")
    return run


@dataclass(frozen=True, kw_only=True)
class AfterCase:
    name: str
    run: Callable[[], Recorded]
    says: str  # "": it is a pass
    reads: int


AFTER = (
    AfterCase(name="no read after the failover", reads=0, says="no register was read after the failover",
              run=lambda: forget(whole(), lambda op: op.kind != "register.write" and op.called > PROMOTED)),
    AfterCase(name="only fresh registers after it", reads=204,
              says="no register that was written before the fault was asked for after the failover",
              run=lambda: forget(whole(), lambda op: op.key in OVER and op.called > PROMOTED)),
    AfterCase(name="asked for after it in vain", reads=204,
              says="of 2 registers that had been written before it 0 were read after the failover",
              run=lambda: fail(whole(), *OVER)),
    AfterCase(name="one of three read after it", reads=207,
              says="of 3 registers that had been written before it 1 were read after the failover",
              run=lambda: with_one_more(fail(whole(), OVER[0]))),
    AfterCase(name="two of three read after it", says="", reads=210, run=lambda: with_one_more(whole())),
    AfterCase(name="one of two read after it", says="", reads=207, run=lambda: fail(whole(), OVER[0])),
)  # fmt: skip


@pytest.mark.parametrize("case", AFTER, ids=lambda case: case.name)
def test_what_was_not_read_after_a_failover_is_no_proof_of_it(case: AfterCase, tmp_path: Path) -> None:
    finding = judged(case.run(), tmp_path)
    assert (finding.verdict, finding.reason) == ("inconclusive" if case.says else "pass", case.says)
    assert finding.measures[f"{NAME}.read_after_failover_ops"] == case.reads


def test_a_promotion_by_hand_is_a_failover_too(tmp_path: Path) -> None:
    """Of standbys that were cut off one is promoted: the primary was not hit, and what comes of it is read later."""
    run = forget(recorded(tiers=TIER), lambda op: op.key in OVER and op.called > PROMOTED)
    finding = judged(run, tmp_path / "nobody promoted")
    assert finding.verdict == "pass"
    assert "of them after the fault on 2 of 2 that had been written before" in finding.measured
    told = {"member": POSTGRESQL[1], "former": POSTGRESQL[0], "timeline": 2, "operator_delay_s": 5.0}
    run.events.append(Event("promotion", PROMOTED, told | {"began_us": APPLIED, "led_us": PROMOTED}))
    finding = judged(run, tmp_path)
    assert finding.verdict == "inconclusive"
    assert finding.reason == "no register that was written before the fault was asked for after the failover"


def test_what_is_wrong_needs_no_read_after_a_failover(tmp_path: Path) -> None:
    run = forget(whole(), lambda op: op.called > PROMOTED)
    stale(Story(run))
    assert judged(run, tmp_path).verdict == "fail"


def test_values_that_cannot_be_told_apart(tmp_path: Path) -> None:
    run = whole()
    one, other = run.good("register.write")[:2]
    other.value = one.value
    finding = judged(run, tmp_path)
    assert finding.verdict == "inconclusive"
    assert finding.reason == "1 value written more than once: what was read cannot be told apart"


def many_at_once(run: Recorded) -> None:
    """So many writes and compare-and-sets at the same time that no order is found soon, and none is there."""
    story = Story(run)
    for number in range(16):
        story.write(AT, f"w{number}")
    story.swap(AT + S, "end", "w3")
    story.swap(AT + S, "other", "w3")


@pytest.mark.parametrize("bound", ["STATES_MAX", "WORK_MAX"])
def test_what_takes_too_long_is_not_known(bound: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = whole()
    many_at_once(run)
    monkeypatch.setattr(checked, bound, 20_000)
    finding = judged(run, tmp_path)
    assert finding.verdict == "inconclusive"
    assert "not decided after" in finding.reason
    assert "states were tried, e.g. pg-register-" in finding.reason
    stale(Story(run, "pg-register-y"))
    finding = judged(run, tmp_path / "and stale")
    assert finding.verdict == "fail"  # what is known to be wrong stays so
    assert "not decided after" in finding.reason


def test_a_load_without_registers_is_not_judged_by_them(tmp_path: Path) -> None:
    """As every run was before there were any: judged again it has the findings that it had."""
    about = replace(ABOUT, load=replace(ABOUT.load, postgresql_register_rate_ops_per_s=None))
    run = whole()
    run.ops = [op for op in run.ops if not op.kind.startswith("register.")]
    assert NAME not in {finding.check for finding in judge(about, run.history(tmp_path, about)).findings}
    assert set(checks_of(ABOUT)) - set(checks_of(about)) == {NAME}
    with pytest.raises(SpecError, match=r"checks: expected one of"):
        require_known_checks(replace(about, checks=(NAME,)))
    require_known_checks(replace(ABOUT, checks=(NAME,)))


def test_a_known_weakness_of_registers(tmp_path: Path) -> None:
    weakness = KnownWeakness(
        finding=NAME, within={f"{NAME}.stale_s": (0, 3)}, seen="always", why="known", durability="async"
    )
    about = replace(ABOUT, known_weaknesses=(weakness,), checks=(NAME,), slos=())
    run = whole()
    stale(Story(run))
    judgement = judge(about, run.history(tmp_path, about))
    assert judgement.verdict == "pass"
    assert "known weakness, seen again: postgresql: 1 register answered what no order explains" in judgement.headline


def test_a_loss_needs_to_be_told_from_a_split_brain_by_who_was_primary(tmp_path: Path) -> None:
    run = whole()
    run.events = [event for event in run.events if event.name != "role" or event.data["group"]]
    stale(Story(run))
    about = replace(ABOUT, checks=(NAME,), slos=())
    found = {finding.check: finding for finding in judge(about, run.history(tmp_path, about)).findings}
    assert found[NAME].verdict == "inconclusive"
    assert "postgresql-known" in found[NAME].reason


def history_of(ops: list[tuple[str, str, int, int, str, str, str]]) -> History:
    """Ops of one register: what, outcome, called, returned, value, stood, error."""
    what, outcomes, called, returned, values, stood, errors = (list(column) for column in zip(*ops, strict=True))
    count = len(ops)
    zeros = np.zeros(count, dtype=np.int32)
    nothing = read_history(Path("nowhere"))

    def codes(texts: list[str], known: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        return np.array([known.index(text) for text in texts], dtype=np.int32)

    kinds = ("register.read", "register.write", "register.swap")
    standing = tuple(dict.fromkeys(["", *stood]))
    columns = Ops(
        client=zeros, id=np.arange(count) + 1, kind=codes([f"register.{one}" for one in what], kinds), key=zeros,
        group=zeros, phase=zeros, due=np.array(called), called=np.array(called), returned=np.array(returned),
        outcome=codes(outcomes, OUTCOMES), version=np.full(count, -1), epoch=np.full(count, -1),
        error=codes(errors, ("", MISMATCH)), stood=codes(stood, standing), value=text_array(values),
        clients=("postgresql",), kinds=kinds, keys=text_array(["r"]), phases=("steady",), errors=("", MISMATCH),
        standing=standing,
    )  # fmt: skip
    return dataclasses.replace(nothing, ops=columns)


instants = st.integers(0, 12)


@st.composite
def told(draw: st.DrawFn) -> list[tuple[str, str, int, int, str, str, str]]:
    """A few ops of every kind and outcome, each value written once; what is read may be any of them, or none."""
    ops = [("write", "ok", 0, 1, "v0", "", ""), ("read", "ok", 12, 13, "", draw(st.sampled_from(("v0", "v1"))), "")]
    stood = st.sampled_from(("", "v0", "v1", "v2", "v3"))
    for number in range(1, draw(st.integers(2, 6))):
        called, returned = sorted((draw(instants), draw(instants)))
        what = draw(st.sampled_from(("read", "write", "swap")))
        outcome = draw(st.sampled_from(("ok", "ok", "ok", "unknown", "fail")))
        value = "" if what == "read" else f"v{number}"
        spoken = draw(st.sampled_from(("v0", "v1", "v2", "v3"))) if what == "swap" else draw(stood)
        missed_it = what == "swap" and outcome == "ok" and draw(st.booleans())
        ops.append((what, outcome, called, returned, value, "" if what == "write" else spoken,
                    MISMATCH if missed_it else ""))  # fmt: skip
    return draw(st.permutations(ops))


def steps_of(ops: list[tuple[str, str, int, int, str, str, str]]) -> list[Step]:
    """The same, by the definition: what failed is not there, what is unknown may be."""
    numbers = {"": INITIAL} | {f"v{number}": number for number in range(10)}
    found = []
    for what, outcome, called, returned, value, stood, error in ops:
        end = returned if outcome == "ok" else NEVER
        if outcome == "fail" or (what == "read" and outcome != "ok"):
            continue
        if error == MISMATCH:
            found.append(Step("miss", called, returned, expected=numbers[stood]))
        elif what == "read":
            found.append(Step("read", called, returned, numbers[stood]))
        elif what == "write":
            found.append(Step("write", called, end, numbers[value]))
        else:
            found.append(Step("swap", called, end, numbers[value], numbers[stood]))
    return found


@settings(max_examples=400, deadline=None)
@given(ops=told())
def test_zones_and_search_together_say_what_a_search_of_everything_says(
    ops: list[tuple[str, str, int, int, str, str, str]],
) -> None:
    (finding,) = registers(SYNCHRONOUS, history_of(ops))
    assert (finding.verdict == "pass") == search(steps_of(ops), 100_000).explained
    assert finding.verdict in {"pass", "fail"}
