"""What each action and probe does with a session: the one table of them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from resilience.chaos import play
from resilience.chaos.pace import too_slow
from resilience.chaos.session import Session
from resilience.chaos.steady import members_down, shards_without_replica
from resilience.errors import FaultError
from resilience.stack.postgresql import unreplicated
from resilience.stack.rabbitmq import incomplete


class Answer(msgspec.Struct, frozen=True):
    """What an activity returns, and what it has to say beside that."""

    value: Any
    says: tuple[str, ...] = ()


def perform(session: Session, activity: str, arguments: Mapping[str, Any]) -> Answer:
    """Does what an action or probe of that name asks for. Raises `FaultError` and what the session raises."""
    try:
        does = _ACTIVITIES[activity]
    except KeyError:
        known = ", ".join(_ACTIVITIES)
        raise FaultError(f"activity {activity!r}: there is none of that name; there are {known}") from None
    return does(session, **_fitting(activity, does, arguments))


def _fitting(activity: str, does: Callable[..., Answer], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, if they are what an activity takes. Raises `FaultError`."""
    _, *takes = inspect.signature(does).parameters.values()
    kinds = {one.name: one.annotation for one in takes}
    known = f"it takes {', '.join(kinds) or 'none'}"
    if missing := [name for name in kinds if name not in arguments]:
        raise FaultError(f"{activity}: {missing[0]} is missing; {known}")
    if unknown := [name for name in arguments if name not in kinds]:
        raise FaultError(f"{activity}: there is no argument {unknown[0]!r}; {known}")
    return {name: _of_kind(activity, name, arguments[name], kind) for name, kind in kinds.items()}


def _of_kind(activity: str, name: str, value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise FaultError(f"{activity}: {name}: {error} ({value!r})") from error


def _hold_phase(session: Session, phase: str, duration_s: float) -> Answer:
    play.hold(session, phase, duration_s)
    return Answer(f"{phase} was held for {duration_s:g} s")


def _inject(session: Session, fault: dict[str, Any], target: dict[str, Any], prelude: dict[str, Any] | None) -> Answer:
    return Answer(play.inject(session, fault, target, prelude).id)


def _heal(session: Session, by: str) -> Answer:
    return Answer(list(play.heal(session, by)))


def _in_effect(session: Session, when: str) -> Answer:
    return Answer(play.in_effect(session, when))


def _healed(session: Session) -> Answer:
    return Answer(play.healed(session))


def _members_running(session: Session) -> Answer:
    return _none("members that do not run", members_down(session.platform))


def _shards_replicated(session: Session) -> Answer:
    return _none("shards", shards_without_replica(session.platform.stack, session.injector.roles()))


def _postgresql_replicated(session: Session) -> Answer:
    return _none("PostgreSQL", unreplicated(session.platform))


def _cancel_waiting(session: Session, for_s: float) -> Answer:
    return Answer(play.cancel_waiting(session, for_s))


def _promote(session: Session, standby: str, fence: bool) -> Answer:  # noqa: FBT001  an experiment names it
    return Answer(play.promote(session, {"standby": standby, "fence": fence}))


def _rejoin(session: Session) -> Answer:
    return Answer(list(play.rejoin(session)))


def _queues_replicated(session: Session) -> Answer:
    reason = incomplete(session.platform)
    return _none("queues", (reason,) if reason else ())


def _load_at_rate(session: Session) -> Answer:
    if not session.loaded:
        return Answer(value=True, says=("load: the harness drives none here, so its rate was not looked at",))
    return _none("load", too_slow(session.scenario, session.run_dir / "load", session.clock.now_us()))


def _none(what: str, reasons: Sequence[str]) -> Answer:
    return Answer(not reasons, (f"{what}: {'; '.join(reasons)}",) if reasons else ())


_ACTIVITIES: Mapping[str, Callable[..., Answer]] = {
    "hold_phase": _hold_phase,
    "inject": _inject,
    "heal": _heal,
    "cancel_waiting": _cancel_waiting,
    "promote": _promote,
    "rejoin": _rejoin,
    "in_effect": _in_effect,
    "healed": _healed,
    "members_running": _members_running,
    "shards_replicated": _shards_replicated,
    "postgresql_replicated": _postgresql_replicated,
    "queues_replicated": _queues_replicated,
    "load_at_rate": _load_at_rate,
}
