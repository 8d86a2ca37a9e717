"""Takeover: how long PostgreSQL took no writes while Patroni had to replace its primary, against what it reports.

::

    renewed     took effect        key gone    another primary    first good write
    |───────────|──────────────────|───────────|──────────────────|
     ≤ loop_wait
     ttl ──────────────────────────▶
                 elected_s ────────────────────▶
                 first_good_write_s ──────────────────────────────▶

The primary renews its key in etcd each ``loop_wait``, and it is gone ``ttl`` after that: [ttl - loop_wait, ttl] after
the fault. The standbys see that at once, or after a ``loop_wait``; they compare who has received most, and one is
promoted. Sooner: the fault had no effect, or the key was given back, as by a server that ends in an orderly way. A
new leader of etcd counts each ``ttl`` anew.

That it was Patroni who replaced it is its own word: its record in etcd names who became primary with which timeline.
"""

from typing import Any

from resilience.check import needs
from resilience.check.fault import POSTGRESQL, SECOND_US, HitShard, hit_postgresql, promotions, successor
from resilience.check.finding import Finding, Verdict, Where
from resilience.check.outage import Outage, gaps, longest, where
from resilience.check.text import seconds
from resilience.history.read import History
from resilience.history.record import Event
from resilience.spec.fault import Kill, parts_from_etcd
from resilience.spec.scenario import Scenario

OUTAGE_US = SECOND_US  # without a row: less is no takeover
EARLY_S = 1.0  # the key is renewed a little before its loop is over, and etcd counts in seconds
PROMOTED_WITHIN_S = 5.0  # the standbys ask each other, one is promoted, clients are led to it
NEW_ETCD_LEADER_S = 5.0  # until etcd has one, where the fault took its leader, too
SEEN_WITHIN_S = 2.0  # who is primary is asked ten times a second, on a busy machine later
_WORDS = {"takeover.elected_s": "another primary", "takeover.first_good_write_s": "first good write"}
_RESTS_ON = needs.WHOLE + needs.LOAD + needs.TIMING + needs.FAULT + needs.PRIMARY
_NO_EFFECT: tuple[Verdict, str] = (
    "inconclusive",
    "no outage where a primary had to be replaced: the fault had no effect",
)
_NOT_TOLD: tuple[Verdict, str] = ("inconclusive", "no member told by what Patroni goes")
_NOT_HIT = "whom the fault was done to was not seen as the primary when it began"
_NOBODY = "no other member was seen as the primary"
_NO_ROW = "no row was written any more"
_BY_HAND = "a standby was promoted by hand: what Patroni would have done is not known"
_ENDED_FIRST = "the fault ended before the key in etcd had to be gone"
_BY_WHOM = "rows were written again before another primary was seen: to whom is not known"
_NOT_ITS = "Patroni's record does not name {} as primary of timeline {}: who promoted it is not known"
_TOO_SOON = "sooner than the key in etcd can be gone: the fault was not effective, or the key was given back"
_TOO_LATE = "later than the key in etcd explains: no standby was fit, etcd had no majority, or clients were led late"


def takeover(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding about Patroni's settings, one about a primary that it had to replace, be it seen or not."""
    told = history.events_of("patroni")
    config: dict[str, Any] = told[0].data.get("config", {}) if told else {}
    settings = _settings(scenario, config)
    if not _has_to_replace(scenario):
        return (settings,)
    hit = hit_postgresql(history)
    replaced = tuple(_replaced(scenario, history, config, shard) for shard in hit)
    return (settings, *replaced) if replaced or not _is_aimed_at_primary(scenario) else (settings, _unseen())


def _has_to_replace(scenario: Scenario) -> bool:
    patroni = scenario.stack.patroni
    if scenario.experiment is None or patroni is None:
        return False
    return parts_from_etcd(scenario.experiment.fault, failsafe=patroni.failsafe_mode)


def _is_aimed_at_primary(scenario: Scenario) -> bool:
    target = scenario.experiment.target if scenario.experiment else None
    return target is not None and (target.component, target.role) == ("postgresql", "primary")


def _unseen() -> Finding:
    """That a primary had to be replaced, and nobody knows which."""
    return Finding(
        check="takeover",
        verdict="inconclusive",
        title="Patroni replaced the primary as soon as its settings make it",
        measured="not replaced",
        reason=_NOT_HIT,
        where=Where(group="postgresql"),
        rests_on=_RESTS_ON,
    )


def _settings(scenario: Scenario, config: dict[str, Any]) -> Finding:
    patroni = scenario.stack.patroni
    asked = patroni.told if patroni else {}
    differing = ", ".join(
        f"{name} is {config[name]} instead of {value}"
        for name, value in asked.items()
        if name in config and config[name] != value
    )
    untold = ", ".join(name for name in asked if name not in config)
    return Finding(
        check="takeover.settings",
        verdict="fail" if differing else "inconclusive" if untold else "pass",
        title="Patroni goes by what the stack asks for",
        measured=", ".join(f"{name} {value}" for name, value in config.items()) or "not told",
        allowed="the stack file's",
        reason=differing or (f"no member told its {untold}" if untold else ""),
        where=Where(group="postgresql"),
        rests_on=needs.RECORD,
    )


def _replaced(scenario: Scenario, history: History, config: dict[str, Any], hit: HitShard) -> Finding:
    rows = history.ops.of_kind("postgresql.write")
    found = gaps(history, rows, POSTGRESQL, OUTAGE_US)
    outage = longest(tuple(gap for gap in found if gap.end > hit.injection.began))
    elected = successor(history, hit)
    instants = {
        "takeover.elected_s": elected.at if elected else None,
        "takeover.first_good_write_s": outage.end if outage and outage.ended else None,
    }
    after = {name: (at - hit.injection.applied) / SECOND_US for name, at in instants.items() if at is not None}
    took_s = after.get("takeover.first_good_write_s")
    low_s, high_s = _expected_s(scenario, config, hit)
    verdict, reason = (
        _unproved(history, config, outage, elected)
        or _ended_first(hit, after, high_s)
        or _in_time(after, low_s, high_s)
    )
    return Finding(
        check="takeover",
        verdict=verdict,
        title=f"Patroni replaced {hit.primary} as soon as its settings make it",
        measured=", ".join(f"{_WORDS[name]} {seconds(value)}" for name, value in after.items()) or "not replaced",
        allowed=f"{low_s:g} s to {high_s:g} s" if config else "not known",
        value=took_s,
        unit="s",
        reason=reason,
        where=where("postgresql", outage),
        rests_on=_RESTS_ON,
        measures=after,
    )


def _expected_s(scenario: Scenario, config: dict[str, Any], hit: HitShard) -> tuple[float, float]:
    ttl_s, loop_wait_s = (float(config.get(name, 0)) for name in ("ttl", "loop_wait"))
    fault = scenario.experiment.fault if scenario.experiment else None
    given_back = isinstance(fault, Kill) and fault.signal == "TERM"
    etcd = {member.name for member in scenario.stack.of("etcd")}
    elected_s = NEW_ETCD_LEADER_S if etcd & set(hit.injection.members) else 0.0
    low_s = 0.0 if given_back else max(0.0, ttl_s - loop_wait_s - EARLY_S)
    return low_s, ttl_s + loop_wait_s + PROMOTED_WITHIN_S + elected_s


def _unproved(
    history: History, config: dict[str, Any], outage: Outage | None, elected: Event | None
) -> tuple[Verdict, str] | None:
    """Why it cannot be said of Patroni that it replaced a primary, or that it did not, None if it can."""
    if outage is None:
        return _NO_EFFECT
    if not config:
        return _NOT_TOLD
    if promotions(history):
        return "inconclusive", _BY_HAND
    if elected is None:
        return None
    member, timeline = elected.data.get("member"), elected.data.get("epoch")
    told = [one for event in history.events_of("takeovers") for one in event.data["takeovers"]]
    if any((one["member"], one["timeline"]) == (member, timeline) for one in told):
        return None
    return "inconclusive", _NOT_ITS.format(member, timeline)


def _ended_first(hit: HitShard, after: dict[str, float], high_s: float) -> tuple[Verdict, str] | None:
    """Whether the fault ended before Patroni had to have replaced the primary, and had not."""
    undoing = hit.injection.undoing
    if undoing is None:
        return None
    lasted_s = (undoing - hit.injection.applied) / SECOND_US
    replaced = len(after) == len(_WORDS) and max(after.values()) <= lasted_s
    return None if replaced or lasted_s >= high_s else ("inconclusive", _ENDED_FIRST)


def _in_time(after: dict[str, float], low_s: float, high_s: float) -> tuple[Verdict, str]:
    elected_s, took_s = (after.get(name) for name in _WORDS)
    if elected_s is None or took_s is None:
        return "fail", _NOBODY if elected_s is None else _NO_ROW
    if took_s < low_s:
        return "inconclusive", _TOO_SOON
    if took_s > high_s:
        return "fail", _TOO_LATE
    return ("inconclusive", _BY_WHOM) if elected_s > took_s + SEEN_WITHIN_S else ("pass", "")
