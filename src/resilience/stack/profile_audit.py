"""Reads back what the personalization service has made of events: which have had their effect, and what profiles say.

Before the queues are drained it is waited for: what is confirmed is still on its way to its consumer then. It is read
after that, since a consumer acknowledges after its effect: what is in no queue any more has had it, or never will. As
of the load's own table, it counts only as the primary on the latest timeline has it.
"""

from resilience.backend.base import Platform
from resilience.errors import StackError
from resilience.history.clock import RunClock
from resilience.history.record import AuditDone, EffectRead, ProfileRead
from resilience.history.writer import Writer
from resilience.stack.postgresql_audit import RETRY_S, as_primary, read_until
from resilience.stack.postgresql_link import PostgresqlLink, Rows
from resilience.stack.wait import wait_until

_WAITING = """SELECT count(*) FROM outbox WHERE published_at IS NOT NULL
    AND NOT EXISTS (SELECT FROM profile_event WHERE event = id)"""


def wait_consumed(platform: Platform, *, deadline: float, timeline_min: int = 0) -> None:
    """Returns once every event that was confirmed has had its effect.

    Raises `StackError` that says how many have not until ``deadline``, a value of `time.monotonic`.
    """

    def waiting() -> str:
        try:
            number = as_primary(platform, timeline_min, _waiting)[2]
        except StackError as error:
            return str(error)
        return f"{number} confirmed events have had no effect" if number else ""

    wait_until("the effects of events", waiting, deadline=deadline, every_s=RETRY_S)


def audit_profiles(
    platform: Platform, writer: Writer, *, clock: RunClock, deadline: float, timeline_min: int = 0
) -> None:
    """Writes an `EffectRead` for each event that has had its effect, a `ProfileRead` for each person, an `AuditDone`.

    Raises `StackError` if they could not be read until ``deadline``; nothing has been written then.
    """
    member, timeline, (effects, profiles) = read_until(
        platform, "reading the profiles", _read, deadline=deadline, timeline_min=timeline_min
    )
    for event, person in effects:
        writer.append(EffectRead(str(event), person or "", member, timeline))
    for person, version, sessions in profiles:
        writer.append(ProfileRead(str(person), int(version or 0), int(sessions or 0), member, timeline))
    writer.write(AuditDone("profiles", len(effects) + len(profiles), clock.now_us()))
    writer.flush()


def _has_tables(link: PostgresqlLink) -> bool:
    return link.ask("SELECT to_regclass('profile'), to_regclass('profile_event'), to_regclass('outbox')") == [
        ("profile", "profile_event", "outbox")
    ]


def _waiting(link: PostgresqlLink) -> int:
    if not _has_tables(link):
        return 0
    return int(link.ask(_WAITING)[0][0] or 0)


def _read(link: PostgresqlLink) -> tuple[Rows, Rows]:
    """Of a database without the tables: nothing, for no event can have had an effect."""
    if not _has_tables(link):
        return [], []
    return (
        link.ask("SELECT event, person FROM profile_event ORDER BY event"),
        link.ask("SELECT person, version, sessions FROM profile ORDER BY person"),
    )
