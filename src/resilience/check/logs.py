"""Logs: what the platform's servers say themselves of crashes, damage and want that no fault of the run explains.

What counts is a line with a mark (`history.log_mark`), from the instant that the stack was up to the one that it was
taken down. What a server says while it comes up has cost nobody anything, unless its data is damaged.

- A *crash* that no fault explains is a fail: it is the server's own doing, by its own word. (Of a server that ended and
  said nothing, somebody else may be the reason; `check.members` tells of that.) A fault explains it in a member that it
  ends, or that stands still, until it is healed. Where one process of several crashed with whom it talked to
  (RabbitMQ's), any fault does, and a little longer.
- *Damaged data* is a fail, and no fault explains it: servers promise that being killed, stopped or cut off damages
  nothing. Only that a copy came to its end before it was whole is the doing of a fault of whoever sent it.
- Memory or a disk that *ran out* makes the run inconclusive: it is not the run that its scenario describes.

So do a log that is missing, one that cannot be read to its end, and a line of which is not known whether a fault
explains it, since it has no instant. Observers are no part of the platform: what they did not see is told elsewhere.

A server that is well may say nothing for an hour, so where a log ends tells nothing by itself. It is known to stop too
early where a server was started again and has left no word since the one before it ended, though each says something as
it starts; and where its last line is torn, and neither its server's end nor the stack's explains that. A fault that
takes a pod away explains that its log begins late, but not for long once that was healed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resilience.check import needs
from resilience.check.fault import SECOND_US, injections, load_end_us
from resilience.check.finding import Finding, Verdict
from resilience.check.members import may_end
from resilience.check.text import count
from resilience.history.event import ended_between
from resilience.history.log import LogLine, ServerLog
from resilience.history.log_mark import Server
from resilience.history.read import History
from resilience.spec.scenario import Scenario
from resilience.spec.stack import OBSERVER, Member

# once all is healed; a RabbitMQ that was cut off stops, and is a member again, and a pod is back in another's place
SETTLED_WITHIN_US = 20 * SECOND_US
SPOKEN_WITHIN_US = 20 * SECOND_US  # of its start a server has said something, on a busy machine
CLOCK_ERROR_US = SECOND_US // 10  # of an instant that comes by way of the wall clock
_SERVERS: dict[str, Server] = {  # what a component's members are; all others are services
    "redis": "redis",
    "postgresql": "postgresql",
    "rabbitmq": "rabbitmq",
    "pgbouncer": "pgbouncer",
    "etcd": "etcd",
}
_QUIET = ("etcd",)  # says nothing while nothing is wrong
_ENDINGS = ("crash", "traceback")
_EXIT_CODE_MAX = 127  # what is above stands for a signal
_SHOWN = 200
_TOLD = 3
_EVER = float("inf")


class Span(NamedTuple):
    """From when to when, us; also from or to ever."""

    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Said:
    """A line with a mark, who has it in his log, and when he can have written it."""

    member: str
    line: LogLine
    span: Span


@dataclass(slots=True)
class _Found:
    """What was found in all logs, sorted by what it means."""

    strange: list[Said] = field(default_factory=list)  # crashes and damage
    short: list[Said] = field(default_factory=list)  # memory or disk ran out
    doubtful: list[Said] = field(default_factory=list)
    explained: int = 0

    @property
    def unexplained(self) -> list[Said]:
        """All that no fault is known to explain."""
        return self.strange + self.short + self.doubtful


def logs(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding over the logs of all of the platform's members."""
    ups = history.events_of("stack-up")
    judged = tuple(member for member in scenario.stack.members if member.node != OBSERVER)
    found = _found(scenario, history, judged, ups[0].at) if ups else _Found()
    unknown = list(_unread(history, judged, ups[0].at)) if ups else ["the stack was never up"]
    lines = found.unexplained
    told = [*map(_told, lines[:_TOLD]), *([f"and {len(lines) - _TOLD:,} more"] if len(lines) > _TOLD else ())]
    return (
        Finding(
            check="logs",
            verdict=_verdict(found, unknown),
            title="No server's own log tells of a crash or damage that no fault explains",
            measured=f"{count(len(lines), 'unexplained line')}, {found.explained:,} explained",
            allowed="none",
            value=float(len(lines)),
            unit="lines",
            reason="; ".join(told + unknown),
            rests_on=needs.RECORD if found.strange else needs.WHOLE + needs.CONTROL,
            evidence=tuple(_evidence(said) for said in lines[:_SHOWN]),
            evidence_total=len(lines),
        ),
    )


def _verdict(found: _Found, unknown: list[str]) -> Verdict:
    if found.strange:
        return "fail"
    return "inconclusive" if found.unexplained or unknown else "pass"


def _found(scenario: Scenario, history: History, judged: tuple[Member, ...], up_us: int) -> _Found:
    found = _Found()
    kept = {log.member: log.lines for log in history.logs}
    for member in judged:
        for line in kept.get(member.name, ()):
            said = Said(member.name, line, _span(history, member.name, line))
            run = Span(up_us if line.kind in _ENDINGS else _began_us(history), _down_us(history))
            by_it = line.server == _SERVERS.get(member.component, "service")
            if by_it and _overlap(said.span, run) and _counts(history, said):
                _sort(found, said, _windows(scenario, history, said), run)
    return found


def _sort(found: _Found, said: Said, windows: Iterable[Span], run: Span) -> None:
    """Puts a line where it belongs: it is explained by what it lies in as a whole, and doubtful if it may lie there."""
    overlapped = [window for window in windows if _overlap(window, said.span)]
    if any(_within(said.span, window) for window in overlapped):
        found.explained += 1
    elif overlapped or not _within(said.span, run):
        found.doubtful.append(said)
    elif said.line.kind == "exhausted":
        found.short.append(said)
    else:
        found.strange.append(said)


def _overlap(one: Span, other: Span) -> bool:
    return one.first <= other.last and other.first <= one.last


def _within(inner: Span, outer: Span) -> bool:
    return outer.first <= inner.first and inner.last <= outer.last


def _windows(scenario: Scenario, history: History, said: Said) -> Iterator[Span]:
    """From when to when a fault explains such a line."""
    for injection in injections(history):
        began = injection.began - CLOCK_ERROR_US
        healed = _EVER if injection.healed is None else injection.healed + CLOCK_ERROR_US
        hit = said.line.kind in _ENDINGS and said.member in injection.members
        if said.line.anyone:
            yield Span(began, healed + SETTLED_WITHIN_US)
        elif hit and may_end(scenario, history, said.member, injection):
            yield Span(began, healed)


def _span(history: History, member: str, line: LogLine) -> Span:
    """From when to when a line may have been written; one without an instant at the latest when its server ended."""
    first = -_EVER if line.after is None else line.after
    last = _EVER if line.before is None else line.before
    ends = [latest for _, latest in _ends(history, member) if latest >= first] if first != last else []
    return Span(first, min([last, *ends]))


def _counts(history: History, said: Said) -> bool:
    """Whether a line counts: a traceback does where its program ended of its own, others whatever became of it."""
    ends = _ends(history, said.member, of_its_own=True)
    return said.line.kind != "traceback" or any(_overlap(Span(*end), said.span) for end in ends)


def _ends(history: History, member: str, *, of_its_own: bool = False) -> Iterator[tuple[int, int]]:
    """Between which instants a member's server ended, each time; of its own: with an exit code, not by a signal."""
    for event in history.events_of("member"):
        if event.data.get("member") == member and event.data.get("what") == "exited":
            code = event.data.get("code")
            if not of_its_own or (isinstance(code, int) and 0 < code <= _EXIT_CODE_MAX):
                yield ended_between(event)


def _began_us(history: History) -> float:
    """When the run began: a log may be older, where the stack is."""
    return history.clock[0].at if history.clock else -_EVER


def _down_us(history: History) -> float:
    """When the stack began to be taken down; older records do not say, and are judged up to what is sure."""
    downs = history.events_of("taking-down")
    if downs:
        return downs[0].at
    return max((event.at for event in history.events_of("converged")), default=load_end_us(history))


def _unread(history: History, judged: tuple[Member, ...], up_us: int) -> Iterator[str]:
    """What is not known of the logs."""
    kept = {log.member: log for log in history.logs}
    missing = [member.name for member in judged if member.name not in kept]
    if missing:
        yield f"no log was kept of {', '.join(missing) if len(missing) < len(judged) else 'any server'}"
    for member in judged:
        if member.name in kept:
            flaws = _flaws(history, member, kept[member.name], up_us)
            yield from (f"the log of {member.name}: {flaw}" for flaw in flaws)


def _flaws(history: History, member: Member, log: ServerLog, up_us: int) -> Iterator[str]:
    talks = member.component not in _QUIET
    if log.problem:
        yield log.problem
    elif not log.size and talks:
        yield "it says nothing"
    elif log.begins is None and talks:
        yield "none of its lines says when it was written"
    if log.unread:
        yield f"{log.unread:,} of {log.size:,} bytes were not read"
    if log.lines_total > len(log.lines):
        yield f"{len(log.lines):,} of {log.lines_total:,} lines with a mark were looked at"
    if talks and log.begins is not None and log.begins > up_us and not _taken(history, member.name, log.begins):
        yield f"it begins at {log.begins / SECOND_US:.1f} s, when the stack had been up"
    yield from _ends_early(history, member.name, log) if talks else ()


def _taken(history: History, member: str, begins_us: int) -> bool:
    """Whether a fault explains that nothing is left of what a member said before: its log went with its pod."""
    return any(
        member in injection.members
        and injection.began <= begins_us
        and (injection.healed is None or begins_us <= injection.healed + SETTLED_WITHIN_US)
        for injection in injections(history)
    )


def _ends_early(history: History, member: str, log: ServerLog) -> Iterator[str]:
    """Why a log is known to stop before its server did."""
    down_us, life = _down_us(history), _last_life(history, member)
    if log.torn and life.goes_on and (log.ends is None or log.ends < down_us):
        yield "its last line is torn"
    long_enough = life.started is not None and down_us - life.started >= SPOKEN_WITHIN_US
    if long_enough and log.ends is not None and log.ends < life.since - CLOCK_ERROR_US:
        yield (
            f"it ends at {log.ends / SECOND_US:.1f} s, and a server was started again after the end of the one before"
            f" it at {life.since / SECOND_US:.1f} s"
        )


class _Life(NamedTuple):
    """Of a member's last server: when it was started again, None if it was the first; from when on whatever its log
    says is its own; and whether it is known to have ended.
    """

    started: int | None
    since: float
    goes_on: bool


def _last_life(history: History, member: str) -> _Life:
    life = _Life(started=None, since=-_EVER, goes_on=True)
    for event in history.events_of("member"):
        if event.data.get("member") != member:
            continue
        match event.data.get("what"):
            case "exited":
                life = _Life(started=None, since=ended_between(event)[0], goes_on=False)
            case "started" | "restarted":
                life = _Life(started=event.at if life.since > -_EVER else None, since=life.since, goes_on=True)
    return life


def _told(said: Said) -> str:
    what = {"damage": "has damaged data", "exhausted": "ran out of memory or disk"}.get(said.line.kind, "crashed")
    first, last = said.span
    when = f"at {first / SECOND_US:.1f} s" if first == last else f"between {_instant(first)} and {_instant(last)}"
    return f"{said.member} {what} {when} by its own log ({said.line.says}): {said.line.text}"


def _instant(at_us: float) -> str:
    return "an instant that is not known" if abs(at_us) == _EVER else f"{at_us / SECOND_US:.1f} s"


def _evidence(said: Said) -> dict[str, Any]:
    line = said.line
    ends = zip(("at_us", "until_us"), said.span, strict=True)
    known: dict[str, Any] = {name: round(at) for name, at in ends if abs(at) != _EVER}
    return {"member": said.member, "what": line.kind, "says": line.says, "text": line.text} | known
