"""The runbook of a failover by hand, as a person would follow it: fence, promote, lead everybody to the new primary.

::

    who answers ─▶ fence whoever takes writes, or is followed ─▶ promote the standby with the least lag
                   ─▶ the other standbys follow it ─▶ PgBouncers lead to it
                   ─▶ who has more than it goes back to where they parted ─▶ is it true?

A person may leave out a part of it, or take the wrong standby (`spec.postgresql.Runbook`). Nobody is promoted beside a
member that may take writes still: whoever does, or is followed, is fenced or seen to be gone (`postgresql_fence`),
unless the runbook says that nobody is fenced.
"""

import contextlib
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from resilience.backend.base import Evidence, Leading, MemberState, Platform, Proof, Say, unheard
from resilience.backend.postgresql_settings import slot_of
from resilience.errors import StackError
from resilience.spec.postgresql import Runbook
from resilience.stack.postgresql import looks
from resilience.stack.postgresql_fence import KNOWN_WITHIN_S, RESTART, Fencing, Standing, fenced, standing
from resilience.stack.postgresql_link import APPLICATION, PASSWORD, SUPERUSER, PostgresqlLink, PostgresqlLinks
from resilience.stack.postgresql_role import Look, Looks, primary_of, standbys, writers
from resilience.stack.wait import wait_until

ASK_TIMEOUT_S = 1.0
PROMOTE_TIMEOUT_S = 10
LOOK_EVERY_S = 0.1
PROVED_WITHIN_S = 5.0
LED_WITHIN_S = 10.0  # in a cluster each node learns for itself where a Service leads; one that is busy took five
LED_TIMEOUT_S = 3.0  # of each answer through a PgBouncer, which has to connect first
TURNED_BACK_WITHIN_S = 20.0  # it stops, starts, and compares its data with the new primary's
KEEP = """SELECT pg_create_physical_replication_slot('{slot}', true)
    WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}')"""
_ROWS = "promotion (timeline"  # what a statement that writes its proof says, and no other
WAITING = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%{_ROWS}%'"  # noqa: S608  a literal
_HOST = re.compile(r"\bhost=\S+")


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What was done; names are members'."""

    member: str  # that was promoted
    former: str  # that took writes, or was followed, before
    fenced: bool  # False: the former primary was gone, or nobody was to be fenced
    timeline_before: int
    timeline: int
    lag_bytes: int | None  # what the member lacked of what the former primary said last; None: that said nothing
    following: tuple[str, ...]  # standbys that were told to follow it
    led: tuple[str, ...]  # PgBouncers that were told to lead to it
    unreached: tuple[str, ...]  # members that could not be told anything, or were left alone
    turned_back: tuple[str, ...] = ()  # standbys that had more than the member, and follow it after a restart
    former_seen: tuple[str, ...] = ()  # what was seen of the former primary until it was fenced or gone


def promote(platform: Platform, runbook: Runbook = Runbook(), say: Say = unheard) -> Promotion:  # noqa: B008  frozen
    """Goes through the runbook; ``say`` hears of each thing that cannot be taken back, before and after it is done.

    Raises `StackError` if nobody can be promoted, or if somebody may take writes still whom the runbook has fenced:
    then nobody is promoted. Whoever was fenced stays so.
    """
    if not isinstance(platform, Leading):
        raise StackError("promote: PgBouncers cannot be led elsewhere on this backend")
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:
        before, followed = _known(links, runbook)
        former = _former(before, followed)
        stopped = _fenced(platform, links, writers_of(before, followed), say) if runbook.fence else {}
        is_fenced = former in stopped and stopped[former].how == "fenced"
        member = candidate(_known(links, runbook)[0] if is_fenced else before, former, runbook.standby)
        done = {"member": member, "former": former, "fenced": is_fenced, "timeline_before": _timeline(before)}
        say("promoting", done | {"former_seen": stopped[former].seen if former in stopped else ()})
        _promote(platform, member)
        say("promoted", done)
        told = _told(links, [name for name in links.hosts if name != member], member)
        after = looks(links).get(member)
    led = lead_all(platform, platform, member, but="" if runbook.fence else _node_of(platform, former))
    if not isinstance(after, Look):
        raise StackError(f"{member} was promoted and does not answer: {after}")
    names = [state.name for state in platform.states() if state.component in {"postgresql", "pgbouncer"}]
    return Promotion(
        member=member,
        former=former,
        fenced=is_fenced,
        former_seen=stopped[former].seen if former in stopped else (),
        timeline_before=_timeline(before),
        timeline=after.timeline,
        lag_bytes=_lacking(before, former, member),
        following=told,
        led=led,
        unreached=tuple(name for name in names if name not in {member, *told, *led, former if is_fenced else ""}),
    )


def turn_back(platform: Platform, promotion: Promotion, say: Say = unheard) -> Promotion:
    """Restarts the standbys that have more of the former primary's log than the member has: they cannot follow it
    until they have gone back to where it parted from them. With those that were seen to follow it then.

    ``say`` hears of each before it is told to stop (event `stopping`).
    """
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:
        ahead = ahead_of(promotion.member, promotion.following, looks(links))
        for name in ahead:
            say("stopping", {"member": name, "why": "turned back", "within_s": TURNED_BACK_WITHIN_S})
            with contextlib.suppress(StackError):  # it may stop before it has answered; who follows then is seen
                links.link(name).ask(RESTART)

        def apart() -> str:
            return ", ".join(name for name in ahead if name not in _followers(looks(links), promotion.member))

        with contextlib.suppress(StackError):  # whoever does not follow is on record as that
            wait_until("standbys that turn back", apart, deadline=time.monotonic() + TURNED_BACK_WITHIN_S)
        turned = tuple(name for name in ahead if name in _followers(looks(links), promotion.member))
    return msgspec.structs.replace(promotion, turned_back=turned)


def ahead_of(member: str, following: Iterable[str], seen: Looks) -> tuple[str, ...]:
    """Those standbys that have replayed more of the timeline before than the member had when it was promoted."""
    promoted = seen.get(member)
    if not isinstance(promoted, Look) or promoted.replayed is None:
        return ()
    followers = _followers(seen, member)  # who streams from it replays what it has written since
    there = standbys(seen)
    return tuple(
        name
        for name in following
        if (look := there.get(name))
        and name not in followers
        and look.timeline < promoted.timeline
        and (look.replayed or 0) > promoted.replayed
    )


def _followers(seen: Looks, primary: str) -> frozenset[str]:
    return frozenset(name for name, look in seen.items() if isinstance(look, Look) and look.upstream == primary)


def candidate(seen: Looks, former: str, which: str = "least-lag") -> str:
    """The standby that has received most, the first of several; or with ``most-lag`` least, the last of several.

    Raises `StackError` if none answers.
    """
    there = standbys(seen)
    there.pop(former, None)
    if not there:
        raise StackError("promote: no standby answers")
    best_first = sorted(there, key=lambda name: (-there[name].timeline, -(there[name].written or 0)))
    return best_first[-1] if which == "most-lag" else best_first[0]


def _known(links: PostgresqlLinks, runbook: Runbook) -> tuple[Looks, tuple[str, ...]]:
    """What the members say, and whom the standbys among them are told to follow, once one can be promoted.

    Raises `StackError` if none could be within the deadline: then nobody is fenced either.
    """
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while True:
        seen = looks(links)
        try:
            followed = _followed(links, seen)
            candidate(seen, _former(seen, followed), runbook.standby)
        except StackError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_EVERY_S)
        else:
            return seen, followed


def _former(seen: Looks, followed: tuple[str, ...]) -> str:
    return primary_of(seen) or next(iter(followed), "")


def writers_of(seen: Looks, followed: Iterable[str]) -> tuple[str, ...]:
    """Who takes writes, or may: those that say so, and those that standbys follow and that are no standbys."""
    there = standbys(seen)
    return tuple(name for name in dict.fromkeys((*writers(seen), *followed)) if name not in there)


def _fenced(platform: Platform, links: PostgresqlLinks, members: tuple[str, ...], say: Say) -> dict[str, Fencing]:
    """Fences them. Raises `StackError` if one of them may take writes still, or if nobody knows who may."""
    if not members:
        raise StackError("promote: nobody takes writes or is followed, so it is not known who would have to be fenced")
    try:
        return {name: fenced(platform, links, name, say) for name in members}
    except StackError as error:
        raise StackError(f"promote: nobody was promoted, since another may take writes still: {error}") from error


def _followed(links: PostgresqlLinks, seen: Looks) -> tuple[str, ...]:
    """Whom the standbys that answer are told to follow. Raises `StackError`."""
    found = [re.search(r"\bhost=(\S+)", _conninfo(links, name)) for name in standbys(seen)]
    return tuple(dict.fromkeys(match[1] for match in found if match and match[1] in links.hosts))


def _conninfo(links: PostgresqlLinks, member: str) -> str:
    return str(links.link(member).ask("SHOW primary_conninfo")[0][0] or "")


def _promote(platform: Platform, member: str) -> None:
    link = PostgresqlLink(
        member, platform.state(member).address, platform.secret(PASSWORD), PROMOTE_TIMEOUT_S + ASK_TIMEOUT_S
    )
    try:
        answer = link.ask(f"SELECT pg_promote(true, {PROMOTE_TIMEOUT_S})")
    finally:
        link.close()
    if answer != [("t",)]:
        raise StackError(f"{member} was not promoted within {PROMOTE_TIMEOUT_S} s")


def _told(links: PostgresqlLinks, others: Iterable[str], primary: str) -> tuple[str, ...]:
    """The others that the primary keeps its log for from now on and that were told to follow it."""
    told = []
    for member in others:
        links.link(primary).ask(KEEP.format(slot=slot_of(member)))
        try:
            conninfo = _HOST.sub(f"host={primary}", _conninfo(links, member))
            if conninfo and links.link(member).ask("SELECT pg_is_in_recovery()") == [("t",)]:
                links.link(member).ask(f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
                links.link(member).ask("SELECT pg_reload_conf()")
                told.append(member)
        except StackError:  # it is told when it starts again, or is a case for the next runbook
            continue
    return tuple(told)


def _node_of(platform: Platform, member: str) -> str:
    return platform.state(member).node if member else ""


def lead_all(platform: Platform, leading: Leading, primary: str, but: str = "") -> tuple[str, ...]:
    """The PgBouncers that are seen to lead to the primary; those that cannot be reached read it at their next start.

    What stands on the node ``but`` is left alone.
    """
    found = [state for state in platform.states() if state.component == "pgbouncer" and state.node != but]
    for state in found:
        leading.lead_writes(state.name, primary)
    password = platform.secret(PASSWORD)
    with ThreadPoolExecutor(max(1, len(found))) as threads:
        led = threads.map(lambda state: _is_led(state, password, primary), found)
        return tuple(state.name for state, is_led in zip(found, led, strict=True) if is_led)


def _is_led(state: MemberState, password: str, primary: str) -> bool:
    """Has a PgBouncer read whom it leads to, and connect anew until that is so: what leads there may learn it late."""
    at = partial(PostgresqlLink, state.name, state.address, password, component=state.component)
    console, door = at(ASK_TIMEOUT_S, user=SUPERUSER, database=state.component), at(LED_TIMEOUT_S, user=APPLICATION)

    def elsewhere() -> str:
        leads_to = _answer(door, "SHOW cluster_name")
        if leads_to != primary:
            console.ask("RECONNECT")
        return "" if leads_to == primary else f"{state.name} leads to {leads_to}"

    try:
        console.ask("RELOAD")
        deadline = time.monotonic() + LED_WITHIN_S
        wait_until(f"leading {state.name} to {primary}", elsewhere, deadline=deadline, every_s=LOOK_EVERY_S)
        console.ask("RECONNECT")  # those that had been opened before led elsewhere
    except StackError:
        return False
    finally:
        console.close()
        door.close()
    return True


def _answer(link: PostgresqlLink, question: str) -> str:
    try:
        return str(link.ask(question)[0][0])
    except StackError as error:
        return f"nobody: {error}"


def _timeline(seen: Looks) -> int:
    return max((look.timeline for look in seen.values() if isinstance(look, Look)), default=0)


def _lacking(seen: Looks, former: str, member: str) -> int | None:
    one, other = seen.get(former), seen.get(member)
    if not isinstance(one, Look) or not isinstance(other, Look) or one.written is None or other.written is None:
        return None
    return max(0, one.written - other.written)


def proof(platform: Platform, promotion: Promotion, *, fence: bool = True) -> Proof:
    """Whether it is true: the member takes writes, on a later timeline and through a PgBouncer, and nobody else does;
    where the runbook does not ``fence``, the former primary does as well.

    Where fewer standbys follow than a commit waits for, writes hang, as the stack has it: that they do is seen then.

    It may take a moment: a write waits for standbys that have only just been told whom to follow.
    """
    ends_at = time.monotonic() + PROVED_WITHIN_S
    while not (seen := _proof(platform, promotion, fence=fence)).holds and time.monotonic() < ends_at:
        time.sleep(0.1)
    return seen


def _proof(platform: Platform, promotion: Promotion, *, fence: bool) -> Proof:
    row = _row(platform, promotion)
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:
        seen = looks(links)
        former = standing(platform, links.link(promotion.former)) if fence and promotion.former in links.hosts else None
    return Proof(evidence=(*writers_seen(promotion, seen, fence=fence), *_former_seen(promotion, former), row))


def writers_seen(promotion: Promotion, seen: Looks, *, fence: bool = True) -> tuple[Evidence, ...]:
    """Whether the member that was promoted takes writes, on a later timeline, and nobody else who answers does; where
    the runbook does not ``fence``, the former primary has to.
    """
    look = seen.get(promotion.member)
    timeline = look.timeline if isinstance(look, Look) else 0
    expected = [promotion.member] if fence else sorted({promotion.member, promotion.former})
    return (
        _evidence("members that take writes", ", ".join(expected), ", ".join(sorted(writers(seen)))),
        Evidence(
            what=f"timeline of {promotion.member}",
            expected=f"over {promotion.timeline_before}",
            observed=str(timeline),
            ok=timeline > promotion.timeline_before,
        ),
    )


def former_seen(promotion: Promotion, now: Standing, words: str) -> Evidence:
    """Whether the former primary takes no writes. One that is silent may, unless it was fenced."""
    silent = now == "unknown"
    return Evidence(
        what=f"the former primary {promotion.former}",
        expected="a standby, or seen to have stopped",
        observed=f"{words}; it was fenced" if promotion.fenced else words,
        ok=promotion.fenced if silent else now in {"standby", "gone"},
    )


def _former_seen(promotion: Promotion, former: tuple[Standing, str] | None) -> tuple[Evidence, ...]:
    return () if former is None else (former_seen(promotion, *former),)


def _row(platform: Platform, promotion: Promotion) -> Evidence:
    """Whether a row is accepted through a PgBouncer; where too few standbys follow, whether it waits as it has to."""
    tier = platform.stack.postgresql
    waited_for, following = (tier.standbys_waited_for if tier else 0), len(promotion.following)
    written = f"written on timeline {promotion.timeline}"
    waits = f"waits for {waited_for} standbys, of which {following} follow"
    observed = _write(platform, promotion.led)
    if waited_for > following and observed != written and _is_waited(platform, promotion.member):
        observed = waits
    may_wait = waited_for > following
    return Evidence(
        what="a row through a PgBouncer",
        expected=f"{written}, or {waits}" if may_wait else written,
        observed=observed,
        ok=observed in {written, waits},
    )


def _is_waited(platform: Platform, member: str) -> bool:
    """Whether a row that was meant as a proof has come to a member, and waits for standbys there, now."""
    with PostgresqlLinks(platform, ASK_TIMEOUT_S) as links:
        try:
            return links.link(member).ask(WAITING) != [("0",)]
        except StackError:
            return False


def _evidence(what: str, expected: str, observed: str) -> Evidence:
    return Evidence(what=what, expected=expected, observed=observed, ok=expected == observed)


def _write(platform: Platform, pgbouncers: Iterable[str]) -> str:
    """What comes of a row that is written through the first PgBouncer that takes it."""
    words = "there is none to be asked"
    for name in pgbouncers:
        link = PostgresqlLink(
            name,
            platform.state(name).address,
            platform.secret(PASSWORD),
            ASK_TIMEOUT_S,
            component="pgbouncer",
            user=APPLICATION,
        )
        try:
            link.ask(f"CREATE TABLE IF NOT EXISTS {_ROWS} integer, at timestamptz DEFAULT now())")
            written = link.ask(
                f"INSERT INTO {_ROWS}) SELECT"
                " ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int RETURNING timeline"
            )
        except StackError as error:
            words = str(error)
            continue
        finally:
            link.close()
        return f"written on timeline {written[0][0]}"
    return words
