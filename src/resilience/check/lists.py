"""Lists of PostgreSQL: what transactions read of them fits the isolation level that they asked for (`isolation`).

They are judged at the level that the load asks for; a server that ran one at a weaker level is a fail of its own. What
the level allows is counted, and told.

One of unknown outcome was committed if anything of it is stored after healing, or was read by one that was. Where a
commit is acknowledged that no standby has, a failover may take back what was acknowledged shortly before
(`durability.booking`), and what was acknowledged locally may always be gone: such a transaction has never been, if
nothing of it is stored, and what others read of it says nothing.

A failover shows in what is read after it: of the lists that were appended to before the fault and asked for again once
another had taken over, half have to have been read since. Transactions of which no two were under way at the same time
show nothing of what a level forbids.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resilience.check import needs
from resilience.check.durability.booking import EVIDENCE_MAX, WINDOW_US, may_be_lost
from resilience.check.durability.postgresql import excuses, may_lose, window
from resilience.check.fault import POSTGRESQL, Applied, after_fault
from resilience.check.finding import Finding, Where
from resilience.check.isolation import Anomaly, Edge, Examined, Name, Transaction, examine, forbidden, twice
from resilience.check.text import count
from resilience.history.columns import FAIL, OK, UNKNOWN, Flags, Ints
from resilience.history.read import History
from resilience.history.record import ACKED_LOCALLY
from resilience.history.transaction import ISOLATION, KIND, steps_of, told_of
from resilience.spec.load import Isolation
from resilience.spec.scenario import Scenario

NAME = "isolation.postgresql"
TITLE = "What transactions read fits their isolation level"
STEPS_MAX = 2_000_000  # appends and reads in all: some twenty seconds, and 1.5 GB
CHARACTERS_MAX = 1_000_000_000  # of what they were told

_ALLOWED_SOMEWHERE: tuple[Name, ...] = ("G-single", "G-nonadjacent", "G2-item")


def lists(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding about all lists."""
    rows = _rows(history)
    reason = _too_many(history, rows)
    told = None if reason else _told(history, rows)
    if told is None or (reason := _nothing_to_judge(told)):
        where = Where(group="postgresql")
        return (Finding(check=NAME, verdict="inconclusive", title=TITLE, reason=reason, where=where),)
    gone = np.flatnonzero(_may_be_gone(scenario, history, rows)).tolist()
    examined = examine(told.transactions, history.audit.lists if told.audited else None, gone)
    return (_finding(_Account(scenario, history, told, examined)),)


def _rows(history: History) -> Ints:
    """The transactions, in the order in which they ended, as far as that is known."""
    ops = history.ops
    rows = np.flatnonzero(ops.of_kind(KIND))
    ended = np.where(ops.outcome == OK, ops.returned, ops.called)[rows]
    return rows[np.argsort(ended, kind="stable")]


def _too_many(history: History, rows: Ints) -> str:
    """Why judging them would take too long, "" if it would not."""
    ops = history.ops
    steps = len(rows) + int(np.strings.count(ops.value[rows], " ").sum())
    characters = sum(map(len, ops.standing))
    if steps > STEPS_MAX:
        return f"{count(steps, 'append')} and reads are on record, and at most {STEPS_MAX:,} are judged"
    if characters > CHARACTERS_MAX:
        return f"{characters:,} characters were read, and at most {CHARACTERS_MAX:,} are judged"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Told:
    """What is on record of transactions, one place for each; ``levels`` says how many were committed at each."""

    rows: Ints
    transactions: list[Transaction]
    levels: Counter[str]
    audited: bool


def _told(history: History, rows: Ints) -> _Told:
    ops = history.ops
    outcomes = ops.outcome[rows].tolist()
    told = [told_of(ops.standing[code]) for code in ops.stood[rows].tolist()]
    return _Told(
        rows=rows,
        transactions=[
            Transaction(outcome, steps_of(text), answer.contents)
            for outcome, text, answer in zip(outcomes, ops.value[rows].tolist(), told, strict=True)
        ],
        levels=Counter(answer.level for outcome, answer in zip(outcomes, told, strict=True) if outcome == OK),
        audited=any(done.kind == "lists" for done in history.audit.done),
    )


def _nothing_to_judge(told: _Told) -> str:
    if not told.levels:
        return "no transaction on lists is on record that was committed"
    if number := twice(told.transactions):
        return f"{count(number, 'value')} appended more than once: whose they are cannot be told"
    return ""


def _may_be_gone(scenario: Scenario, history: History, rows: Ints) -> Flags:
    """Which transactions a failover may have taken back, or were never promised to stay."""
    ops = history.ops
    faults = excuses(scenario, history, POSTGRESQL)
    found: Flags = ops.with_error(ACKED_LOCALLY)[rows]
    found |= (ops.outcome[rows] == OK) & may_be_lost(history, rows, faults)
    for fault in faults:
        found |= (ops.outcome[rows] == UNKNOWN) & _under_way(history, rows, fault)
    return found


def _under_way(history: History, rows: Ints, fault: Applied) -> Flags:
    """Which of them, of unknown outcome, may have been committed shortly before a fault."""
    called, returned = history.ops.called[rows], history.ops.returned[rows]
    found: Flags = (called <= fault.applied) & ((returned < 0) | (returned >= fault.began - WINDOW_US))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """How much there was to see anything by; ``met`` began before another one had ended that had begun before it.

    ``stood`` lists were appended to before a fault and asked for after it, ``read`` of them were read (``after``:
    `fault.After.name`).
    """

    reads: int
    untold: int  # transactions that were committed, and of whose reads it is not on record what each was told
    both: int  # lists that were appended to and read
    met: int
    after: str
    since: int
    stood: int
    read: int

    @property
    def too_little(self) -> str:
        """Why nothing is known from that, "" if something is."""
        if self.untold:
            return f"of {count(self.untold, 'transaction')} it is not on record what each read was told"
        if not self.both:
            return "no list was both appended to and read"
        if not self.met:
            return "no two transactions were under way at the same time"
        if self.after and not self.stood:
            return f"no list that had been appended to before the fault was asked for after the {self.after}"
        if 2 * self.read < self.stood:
            before = count(self.stood, "list")
            return f"of {before} that had been appended to before it {self.read} were read after the {self.after}"
        return ""


def _seen(history: History, told: _Told) -> _Seen:
    ops, after = history.ops, after_fault(history)
    reads, appended, read, before, asked, since = 0, set[str](), set[str](), set[str](), set[str](), set[str]()
    late = 0
    for row, one in zip(told.rows.tolist(), told.transactions, strict=True):
        was_before = after is not None and 0 <= ops.returned[row] <= after.applied
        was_since = after is not None and ops.called[row] > after.since
        done = one.outcome == OK
        for key, value in one.steps:
            if was_since:
                asked.add(key)
            if done and value:
                appended.add(key)
                if was_before:
                    before.add(key)
            elif done:
                reads += 1
                read.add(key)
                if was_since:
                    late += 1
                    since.add(key)
    return _Seen(
        reads=reads,
        untold=sum(one.outcome == OK and len(one.contents) != _reads(one) for one in told.transactions),
        both=len(appended & read),
        met=_met(history, told),
        after=after.name if after else "",
        since=late,
        stood=len(before & asked),
        read=len(before & asked & since),
    )


def _reads(one: Transaction) -> int:
    return sum(not step.value for step in one.steps)


def _met(history: History, told: _Told) -> int:
    ops = history.ops
    rows = told.rows[ops.outcome[told.rows] == OK]
    rows = rows[np.argsort(ops.called[rows], kind="stable")]
    ended = np.maximum.accumulate(ops.returned[rows])
    return int((ops.called[rows][1:] < ended[:-1]).sum())


class _Account:
    """What was found, by what the level says of it."""

    def __init__(self, scenario: Scenario, history: History, told: _Told, examined: Examined) -> None:
        self.scenario, self.history, self.told, self.examined = scenario, history, told, examined
        self.level: Isolation = scenario.load.postgresql_isolation
        self.seen = _seen(history, told)
        self.forbidden = [one for one in examined.anomalies if forbidden(one.name, self.level)]
        self.allowed = [one for one in examined.anomalies if not forbidden(one.name, self.level)]
        self.weaker = {level: number for level, number in told.levels.items() if self._is_weaker(level)}

    def _is_weaker(self, level: str) -> bool:
        return level not in ISOLATION or ISOLATION.index(level) < ISOLATION.index(self.level)

    @property
    def of_outcome(self) -> Counter[int]:
        return Counter(one.outcome for one in self.told.transactions)

    @property
    def bad(self) -> int:
        return len(self.forbidden) + sum(self.weaker.values())


def _finding(account: _Account) -> Finding:
    bad = account.forbidden
    return Finding(
        check=NAME,
        verdict="fail" if account.bad else "inconclusive" if account.seen.too_little else "pass",
        title=_title(account),
        measured=_measured(account),
        allowed=f"what {account.level} allows{_may_be_taken_back(account)}",
        value=float(account.bad),
        unit="ops",
        reason="; ".join(_reasons(account)),
        where=_where(account),
        rests_on=_rests_on(account),
        evidence=tuple(_item(account, one) for one in bad[:EVIDENCE_MAX]),
        evidence_total=len(bad),
        measures=_measures(account),
    )


def _title(account: _Account) -> str:
    if account.forbidden:
        what = "anomaly" if len(account.forbidden) == 1 else "anomalies"
        return f"{len(account.forbidden):,} {what} that {account.level} does not allow"
    return TITLE if not account.weaker else f"transactions were run at less than {account.level}"


def _may_be_taken_back(account: _Account) -> str:
    return ", and what a failover may take back" if may_lose(account.scenario.stack) else ""


def _measured(account: _Account) -> str:
    of_outcome, examined, seen = account.of_outcome, account.examined, account.seen
    text = (
        f"{len(account.forbidden)} in {count(of_outcome[OK], 'transaction')}, {of_outcome[FAIL]:,} rolled back,"
        f" {of_outcome[UNKNOWN]:,} of unknown outcome of which {len(examined.settled):,} were committed;"
        f" {count(seen.reads, 'read')}"
    )
    if seen.after:
        text += f", {seen.since:,} of them after the {seen.after}"
        text += f" on {seen.read} of {seen.stood} lists that had been appended to before"
    if examined.taken_back:
        text += f"; {len(examined.taken_back):,} taken back"
    return text if not account.allowed else f"{text}; allowed: {_tally(account.allowed)}"


def _tally(anomalies: list[Anomaly]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in Counter(one.name for one in anomalies).items())


def _reasons(account: _Account) -> Iterator[str]:
    if account.forbidden:
        yield f"{_tally(account.forbidden)}: {_in_words(account, account.forbidden[0])}"
    for level, number in account.weaker.items():
        yield f"{count(number, 'transaction')} ran at {level or 'no level'}, {account.level} was asked for"
    if account.examined.taken_back:
        back = count(len(account.examined.taken_back), "transaction")
        yield f"{back} taken back that may be: acknowledged {window(account.scenario)}, or locally"
    if account.seen.too_little and not account.bad:
        yield account.seen.too_little


def _in_words(account: _Account, one: Anomaly) -> str:
    if one.edges:
        return "; ".join(_edge_in_words(account, edge) for edge in one.edges)
    who = [_name(account, at) for at in one.transactions]
    value, key, first, last = one.value, one.key, *(who or ["", ""])[:1], *(who or [""])[-1:]
    other = first if len(who) > 1 else "what is stored"
    words: Mapping[Name, str] = {
        "G1a": f"{last} read {value} of {key}, which {first} had rolled back",
        "G1b": f"{last} read {value} of {key} as the last, to which {first} appended more",
        "incompatible order": f"{last} read {key} up to {value}, which does not go with {other}",
        "duplicate": f"{value} stands in {key} more than once",
        "own append": f"{last} read {key} as if its own append of {value} had not been where it was",
        "from nowhere": f"{value} of {key} was appended by nobody on record",
        "refused but there": f"{value} of {last} is stored in {key}, and was rolled back",
        "lost append": f"{value} of {last} is not stored in {key}",
        "partly there": f"{value} of {last} is not stored in {key}, and what else it appended is",
    }
    return words[one.name]


def _edge_in_words(account: _Account, edge: Edge) -> str:
    source, target = _name(account, edge.source), _name(account, edge.target)
    return {
        "ww": f"{target} appended {edge.value} to {edge.key} after {source}",
        "wr": f"{target} read {edge.value} of {edge.key} from {source}",
        "rw": f"{source} did not see {edge.value} of {edge.key} by {target}",
    }[edge.kind]


def _name(account: _Account, at: int) -> str:
    return account.history.ops.name(int(account.told.rows[at]))


_OF_STORE: frozenset[Name] = frozenset({"lost append", "partly there", "refused but there"})


def _rests_on(account: _Account) -> tuple[str, ...]:
    primary = needs.PRIMARY if may_lose(account.scenario.stack) else ()  # who was hit decides what may be taken back
    if not account.bad:
        return needs.WHOLE + needs.LOAD + needs.FAULT + needs.LISTS + primary
    found = needs.RECORD + primary
    if account.told.audited or any(one.name in _OF_STORE for one in account.forbidden):
        found += needs.LISTS
    if any(one.name == "from nowhere" for one in account.forbidden):  # it may be among what a dead client lost
        found += ("assumption.generator-alive",)
    return found


def _where(account: _Account) -> Where:
    """From the first to the last call of a transaction that gives an anomaly away."""
    shown = [one.transactions[-1] for one in account.forbidden if one.transactions]
    if not shown:
        return Where(group="postgresql")
    called = account.history.ops.called[account.told.rows[shown]]
    return Where(group="postgresql", start_us=int(called.min()), end_us=int(called.max()))


def _item(account: _Account, one: Anomaly) -> dict[str, Any]:
    ops, item = account.history.ops, {"what": one.name, "told": _in_words(account, one)}
    item["ops"] = ", ".join(_name(account, at) for at in one.transactions)
    if not one.transactions:
        return item
    last = int(account.told.rows[one.transactions[-1]])
    return item | {"phase": ops.phases[ops.phase[last]], "called_us": int(ops.called[last])}


def _measures(account: _Account) -> dict[str, float]:
    of_outcome, examined, seen = account.of_outcome, account.examined, account.seen
    names = Counter(one.name for one in examined.anomalies)
    numbers = {
        "forbidden": len(account.forbidden),
        "weaker": sum(account.weaker.values()),
        "lost": names["lost append"] + names["partly there"],
        "committed": of_outcome[OK],
        "rolled_back": of_outcome[FAIL],
        "unknown": of_outcome[UNKNOWN],
        "settled": len(examined.settled),
        "taken_back": len(examined.taken_back),
        "read": seen.reads,
        "met": seen.met,
        **{name.lower().replace("-", "_"): names[name] for name in _ALLOWED_SOMEWHERE},
    }
    if seen.after:
        numbers[f"read_after_{seen.after}"] = seen.since
    return {f"{NAME}.{what}_ops": float(number) for what, number in numbers.items()}
