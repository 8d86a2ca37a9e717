"""What servers say of themselves: what a fault explains, what none does, and what is not known."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from resilience.check.finding import Finding
from resilience.check.logs import CLOCK_ERROR_US, SETTLED_WITHIN_US, SPOKEN_WITHIN_US, logs
from resilience.history import log as log_module
from resilience.history.record import Event
from resilience.spec.fault import FaultSpec, Noop, Partition, Pause, PowerOff
from resilience.spec.scenario import Scenario
from tests.histories import (
    APPLIED,
    BEGAN,
    DOWN,
    END,
    RECOVERY,
    STEADY,
    TIERS,
    Recorded,
    S,
    by_patroni,
    patroni_events,
    recorded,
    scenario,
    stamped,
)

HIT = "redis-cluster-0"  # the fault's own, beside session-0
SIGNAL = "# Redis 8.0.2 crashed by signal: 11, si_code: 0"
TORN = "# Short read or OOM loading DB. Unrecoverable error, aborting now."
CHECKSUM = "# Wrong RDB checksum expected: (1) but got (2). Aborting now."
FULL = "# Can't save in background: fork: Cannot allocate memory"
BACKEND = "[23] LOG:  client backend (PID 61) was terminated by signal 11: Segmentation fault"
CRASHER = "[error] <0.151.0>   crasher:"
POWER_OFF = PowerOff()
BARE = "Kernel pid terminated (x)"
TRACE = ("Traceback (most recent call last):", "ValueError: x")


def judged(run: Recorded, tmp_path: Path, about: Scenario) -> Finding:
    (finding,) = logs(about, run.history(tmp_path, about))
    return finding


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    member: str = HIT
    text: str = SIGNAL
    at: int
    verdict: str = "pass"
    fault: FaultSpec = POWER_OFF


CASES = (
    Case(name="hit by the fault", at=APPLIED),
    Case(name="hit by one that lets it stand still", at=APPLIED, fault=Pause()),
    Case(name="hit by one that ends nobody", at=APPLIED, fault=Partition(cut_from="peers"), verdict="fail"),
    Case(name="hit by nothing", at=APPLIED, fault=Noop(), verdict="fail"),
    Case(name="as the fault began", at=BEGAN - CLOCK_ERROR_US),
    Case(name="before the fault", at=BEGAN - CLOCK_ERROR_US - 1_000, verdict="fail"),
    Case(name="as it was healed", at=RECOVERY + CLOCK_ERROR_US),
    Case(name="after healing", at=RECOVERY + CLOCK_ERROR_US + 1_000, verdict="fail"),
    Case(name="not hit by it", member="redis-cluster-1", at=APPLIED, verdict="fail"),
    Case(name="while the stack came up", at=-1_000),
    Case(name="as soon as it was up", at=0, verdict="fail"),
    Case(name="as it was taken down", at=DOWN + 1_000),
    Case(name="just before it was taken down", at=DOWN, verdict="fail"),
    Case(name="damage by the fault", at=APPLIED, text=CHECKSUM, verdict="fail"),
    Case(name="damage while it came up", at=S // 2, text=CHECKSUM, verdict="fail"),
    Case(name="damage before the run", at=-S // 2, text=CHECKSUM),
    Case(name="a copy whose sender died", member="redis-cluster-3", at=RECOVERY + SETTLED_WITHIN_US, text=TORN),
    Case(name="half a copy later on", member="redis-cluster-3", at=RECOVERY + SETTLED_WITHIN_US + S, text=TORN,
         verdict="fail"),
    Case(name="half a copy before", member="redis-cluster-3", at=STEADY, text=TORN, verdict="fail"),
    Case(name="no memory", at=APPLIED, text=FULL, verdict="inconclusive"),
    Case(name="words of another server", at=STEADY, text=CRASHER),
    Case(name="PostgreSQL's backend", member="postgresql-replica-0", at=STEADY, text=BACKEND, verdict="fail"),
    Case(name="RabbitMQ's process, by whom it talked to", member="rabbitmq-1", at=APPLIED, text=CRASHER),
    Case(name="RabbitMQ's process, by nobody", member="rabbitmq-1", at=STEADY, text=CRASHER, verdict="fail"),
    Case(name="a panic of etcd", member="etcd-1", at=STEADY, text="panic", verdict="fail"),
    Case(name="an observer", member="prometheus-0", at=STEADY, text=SIGNAL),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_line_with_a_mark(tmp_path: Path, case: Case) -> None:
    about = by_patroni(scenario(fault=case.fault, tiers=TIERS))
    run = recorded(tiers=TIERS)
    run.events.extend(patroni_events())
    component = about.stack.member(case.member).component
    run.say(case.member, stamped(component, case.at, case.text))
    finding = judged(run, tmp_path, about)
    assert finding.verdict == case.verdict, finding.reason
    assert (finding.reason == "") == (case.verdict == "pass")
    assert (case.member in finding.reason) == (case.verdict != "pass")


def test_what_is_told_of_a_crash(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    line = stamped("redis", STEADY, SIGNAL)
    run.say("redis-cluster-1", line)
    finding = judged(run, tmp_path, about)
    assert finding.reason == f"redis-cluster-1 crashed at 2.0 s by its own log (crashed by a signal): {line}"
    assert finding.measured == "1 unexplained line, 0 explained"
    assert finding.rests_on == ("assumption.history-whole",)  # nothing else makes a crash none
    assert finding.evidence == (
        {"member": "redis-cluster-1", "what": "crash", "says": "crashed by a signal", "text": line,
         "at_us": STEADY, "until_us": STEADY},
    )  # fmt: skip


def test_the_reason_ends(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.say("redis-cluster-1", *[stamped("redis", STEADY, SIGNAL)] * 9)
    finding = judged(run, tmp_path, about)
    assert (finding.reason.count("crashed at"), finding.reason.endswith("; and 6 more")) == (3, True)
    assert (len(finding.evidence), finding.value) == (9, 9.0)


def between(component: str, lines: tuple[str, ...], first: int, last: int) -> tuple[str, ...]:
    """Lines without an instant between two that have one."""
    return stamped(component, first, "* a"), *lines, stamped(component, last, "* b")


@dataclass(frozen=True, kw_only=True)
class Undated:
    name: str
    hits: str = "rabbitmq-0"
    first: int
    last: int
    verdict: str


UNDATED = (
    Undated(name="before the fault", first=STEADY, last=BEGAN - S, verdict="fail"),
    Undated(name="within the fault", first=APPLIED, last=RECOVERY, verdict="pass"),
    Undated(name="in it or not", first=STEADY, last=APPLIED, verdict="inconclusive"),
    Undated(name="in it or not, of whom it did not hit", hits=HIT, first=STEADY, last=APPLIED, verdict="fail"),
    Undated(name="as the stack came up, or later", first=-S, last=STEADY, verdict="inconclusive"),
    Undated(name="as it was taken down, or before", first=END, last=DOWN + S, verdict="inconclusive"),
    Undated(name="as it was taken down", first=DOWN + 1_000, last=DOWN + S, verdict="pass"),
)


@pytest.mark.parametrize("case", UNDATED, ids=lambda case: case.name)
def test_a_line_without_an_instant(tmp_path: Path, case: Undated) -> None:
    run, about = recorded(tiers=TIERS), scenario(tiers=TIERS)
    run.change("injected", members=[case.hits])
    run.say("rabbitmq-0", *between("rabbitmq", (BARE,), case.first, case.last))
    finding = judged(run, tmp_path, about)
    assert finding.verdict == case.verdict, finding.reason


def test_a_line_without_an_instant_is_not_later_than_the_end_of_its_server(tmp_path: Path) -> None:
    run, about = recorded(tiers=TIERS), scenario(tiers=TIERS)
    run.say("rabbitmq-1", stamped("rabbitmq", STEADY, "* a"), BARE)
    before = judged(run, tmp_path / "before", about)
    run.events.append(Event("member", STEADY + S, {"member": "rabbitmq-1", "what": "exited", "pid": 7, "code": 1}))
    finding = judged(run, tmp_path / "after", about)
    assert (before.verdict, finding.verdict) == ("inconclusive", "fail")
    assert "between 2.0 s and 3.0 s" in finding.reason
    assert "an instant that is not known" in before.reason


@pytest.mark.parametrize(
    ("code", "at", "verdict"),
    [(1, STEADY + 2 * S, "fail"), (-9, STEADY + 2 * S, "pass"), (0, STEADY + 2 * S, "pass"), (1, END, "pass")],
    ids=["ended with it", "was killed", "was told to end", "went on"],
)
def test_a_traceback_of_a_service(tmp_path: Path, code: int, at: int, verdict: str) -> None:
    run, about = recorded(), scenario()
    run.say("collaboration-0", *between("collaboration", TRACE, STEADY, STEADY + 3 * S))
    run.events.append(Event("member", at, {"member": "collaboration-0", "what": "exited", "pid": 7, "code": code}))
    finding = judged(run, tmp_path, about)
    assert finding.verdict == verdict, finding.reason


def test_a_traceback_that_was_caught(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.say("collaboration-0", *between("collaboration", TRACE, STEADY, STEADY + 3 * S))
    assert judged(run, tmp_path, about).verdict == "pass"


def begins_late(run: Recorded, member: str, at: int) -> None:
    keep(run, member, stamped("redis", at, "* Ready to accept connections tcp") + "\n")


def keep(run: Recorded, member: str, text: str) -> None:
    """All that there is of a member's log, to the byte."""
    run.unlogged.add(member)

    def write(_: Recorded, folder: Path) -> None:
        path = folder / "members" / member / "server.log"
        path.parent.mkdir(parents=True)
        path.write_text(text)

    run.later = write


def says_nothing(run: Recorded) -> None:
    run.unlogged.add("redis-cluster-1")
    run.later = empty


def empty(_: Recorded, folder: Path) -> None:
    (folder / "members" / "redis-cluster-1").mkdir(parents=True)
    (folder / "members" / "redis-cluster-1" / "server.log").touch()


def tells_no_time(run: Recorded) -> None:
    run.unlogged.add("redis-cluster-1")
    run.later = undated


def undated(run: Recorded, folder: Path) -> None:
    empty(run, folder)
    (folder / "members" / "redis-cluster-1" / "server.log").write_text("it is well\n")


UNKNOWN: tuple[tuple[str, Callable[[Recorded], object], str], ...] = (
    ("missing", lambda run: run.unlogged.add("redis-cluster-1"), "no log was kept of redis-cluster-1"),
    ("all missing", lambda run: run.unlogged.update(m.name for m in scenario().stack.members),
     "no log was kept of any server"),
    ("empty", says_nothing, "the log of redis-cluster-1: it says nothing"),
    ("undated", tells_no_time, "the log of redis-cluster-1: none of its lines says when it was written"),
    ("late", lambda run: begins_late(run, "redis-cluster-1", APPLIED),
     "the log of redis-cluster-1: it begins at 22.0 s, when the stack had been up"),
    ("many lines", lambda run: run.say("redis-cluster-1", *[stamped("redis", -S, SIGNAL)] * 101),
     "the log of redis-cluster-1: 100 of 101 lines with a mark were looked at"),
    ("never up", lambda run: run.drop("stack-up"), "the stack was never up"),
)  # fmt: skip


@pytest.mark.parametrize(("change", "says"), [row[1:] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
def test_what_is_not_known_is_no_pass(tmp_path: Path, change: Callable[[Recorded], object], says: str) -> None:
    run, about = recorded(), scenario()
    change(run)
    if run.later:
        run.later(run, tmp_path)
    finding = judged(run, tmp_path, about)
    assert (finding.verdict, finding.reason) == ("inconclusive", says)


def test_a_log_that_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "LOG_BYTES", 100)
    run, about = recorded(), scenario()
    run.say("redis-cluster-1", "x" * 200)
    finding = judged(run, tmp_path, about)
    assert finding.verdict == "inconclusive"
    assert finding.reason.startswith("the log of redis-cluster-1: ")
    assert finding.reason.endswith("bytes were not read")


LAST = RECOVERY + SETTLED_WITHIN_US  # that a pod in another's place has to have said something


@pytest.mark.parametrize(
    ("at", "healed", "says"),
    [
        (BEGAN, True, ""),
        (LAST, True, ""),
        (LAST + 1_000, True, "the log of redis-cluster-0: it begins at 62.0 s, when the stack had been up"),
        (LAST + 1_000, False, ""),
        (BEGAN - 1_000, True, "the log of redis-cluster-0: it begins at 22.0 s, when the stack had been up"),
    ],
    ids=["at once", "just in time", "later", "never healed", "before"],
)
def test_a_log_that_went_with_its_pod(tmp_path: Path, at: int, healed: bool, says: str) -> None:
    run, about = recorded(), scenario()
    begins_late(run, HIT, at)
    if not healed:
        run.drop("healed")
    assert run.later
    run.later(run, tmp_path)
    finding = judged(run, tmp_path, about)
    assert (finding.verdict, finding.reason) == ("inconclusive" if says else "pass", says)


def ended(member: str, at: int, **more: int) -> Event:
    return Event("member", at, {"member": member, "what": "exited", "pid": 7, "code": -9} | more)


def restarted(member: str, at: int) -> Event:
    return Event("member", at, {"member": member, "what": "restarted", "pid": 8, "code": 0})


LATEST = DOWN - SPOKEN_WITHIN_US  # that a server is started from which something has to be there


@pytest.mark.parametrize(
    ("last_word", "started", "silent"),
    [
        (None, RECOVERY, True),
        (APPLIED - CLOCK_ERROR_US - 1_000, RECOVERY, True),
        (APPLIED, RECOVERY, False),  # it may be the successor's
        (RECOVERY + S, RECOVERY, False),
        (None, LATEST, True),
        (None, LATEST + 1, False),
        (None, None, False),
    ],
    ids=["no word", "its predecessor's", "perhaps its own", "its own", "late", "too late to say something",
         "it never came back"],
)  # fmt: skip
def test_a_server_that_was_started_again_says_so(
    tmp_path: Path, last_word: int | None, started: int | None, silent: bool
) -> None:
    """Else its log was cut off before."""
    run, about = recorded(), scenario()
    run.events.append(ended(HIT, APPLIED + 3 * S, late_us=2 * S, unsure_us=S))  # not before it was applied
    run.events.extend([restarted(HIT, started)] if started is not None else ())
    run.say(HIT, *([stamped("redis", last_word, "* a")] if last_word is not None else ()))
    finding = judged(run, tmp_path, about)
    assert finding.verdict == ("inconclusive" if silent else "pass"), finding.reason
    assert ("a server was started again after the end of the one before it at 22.0 s" in finding.reason) == silent


def test_only_the_last_of_several_servers_has_the_last_word(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.events += [ended(HIT, APPLIED), restarted(HIT, APPLIED + S), ended(HIT, APPLIED + 9 * S),
                   restarted(HIT, APPLIED + 10 * S)]  # fmt: skip
    run.say(HIT, stamped("redis", APPLIED + 2 * S, "* a"))
    finding = judged(run, tmp_path / "one", about)
    assert finding.reason.startswith("the log of redis-cluster-0: it ends at 24.0 s, and a server was started again")
    run.say(HIT, stamped("redis", APPLIED + 11 * S, "* a"))
    assert judged(run, tmp_path / "both", about).verdict == "pass"


@pytest.mark.parametrize(
    ("member", "events", "last_word", "torn"),
    [
        ("redis-cluster-1", (), -S, True),
        ("redis-cluster-1", (), DOWN - 1_000, True),
        ("redis-cluster-1", (), DOWN, False),  # it was ended in the middle of it
        (HIT, (ended(HIT, APPLIED),), -S, False),  # likewise, by the fault
        (HIT, (ended(HIT, APPLIED), restarted(HIT, RECOVERY)), RECOVERY + S, True),
    ],
    ids=["early", "just before all were ended", "as all were ended", "as its server was ended", "of the next server"],
)
def test_a_log_whose_last_line_is_torn(
    tmp_path: Path, member: str, events: tuple[Event, ...], last_word: int, torn: bool
) -> None:
    run, about = recorded(), scenario()
    run.events.extend(events)
    lines = (stamped("redis", at, "* a") for at in (-2 * S, last_word))
    keep(run, member, "\n".join((*lines, "23:M 09 Oct")))
    assert run.later
    run.later(run, tmp_path)
    finding = judged(run, tmp_path, about)
    expected = ("inconclusive", f"the log of {member}: its last line is torn") if torn else ("pass", "")
    assert (finding.verdict, finding.reason) == expected


def test_older_records_are_judged_up_to_where_the_stack_had_converged(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.drop("taking-down")
    run.say("redis-cluster-1", stamped("redis", END + 3 * S + S // 2, SIGNAL))
    assert judged(run, tmp_path / "after", about).verdict == "pass"
    run.logs.clear()
    run.say("redis-cluster-1", stamped("redis", END + 2 * S, SIGNAL))
    assert judged(run, tmp_path / "before", about).verdict == "fail"


def test_etcd_may_say_nothing(tmp_path: Path) -> None:
    about = by_patroni(scenario(tiers=TIERS))
    run = recorded(tiers=TIERS)
    run.events.extend(patroni_events())
    run.unlogged.add("etcd-0")
    path = tmp_path / "members" / "etcd-0" / "server.log"
    path.parent.mkdir(parents=True)
    path.touch()
    assert judged(run, tmp_path, about).verdict == "pass"


def test_an_injection_that_never_ended_explains_all_after_it(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.drop("healed")
    run.say(HIT, stamped("redis", END, SIGNAL))
    assert judged(run, tmp_path, about).verdict == "pass"


def test_without_clocks_no_line_has_an_instant(tmp_path: Path) -> None:
    run, about = recorded(), scenario()
    run.clock.clear()
    run.say("redis-cluster-1", stamped("redis", STEADY, SIGNAL))
    finding = judged(run, tmp_path, msgspec.structs.replace(about, slos=()))
    assert finding.verdict == "inconclusive"
