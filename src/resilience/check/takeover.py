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
"""

from collections.abc import Iterator
from typing import Any

from resilience.check import needs
from resilience.check.fault import POSTGRESQL, SECOND_US, HitShard, hit_postgresql, promoted_at
from resilience.check.finding import Finding, Verdict, Where
from resilience.check.outage import gaps, longest
from resilience.check.text import seconds
from resilience.history.read import History
from resilience.spec.fault import Kill, parts_from_etcd
from resilience.spec.postgresql import Patroni
from resilience.spec.scenario import Scenario

OUTAGE_US = SECOND_US  # without a row: less is no takeover
EARLY_S = 1.0  # the key is renewed a little before its loop is over, and etcd counts in seconds
PROMOTED_WITHIN_S = 5.0  # the standbys ask each other, one is promoted, clients are led to it
NEW_ETCD_LEADER_S = 5.0  # until etcd has one, where the fault took its leader, too
_RESTS_ON = needs.WHOLE + needs.LOAD + needs.TIMING + needs.FAULT + needs.PRIMARY
_ASKED = {
    "ttl": "ttl_s",
    "loop_wait": "loop_wait_s",
    "retry_timeout": "retry_timeout_s",
    "maximum_lag_on_failover": "maximum_lag_on_failover_bytes",
}


_NO_EFFECT: tuple[Verdict, str] = (
    "inconclusive",
    "no outage where a primary had to be replaced: the fault had no effect",
)
_NOT_TOLD: tuple[Verdict, str] = ("inconclusive", "no member told by what Patroni goes")
_NOBODY = "no other member was seen as the primary"
_NO_ROW = "no row was written any more"
_TOO_SOON = "sooner than the key in etcd can be gone: the fault was not effective, or the key was given back"
_TOO_LATE = "later than the key in etcd explains: no standby was fit, etcd had no majority, or clients were led late"


def takeover(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding about Patroni's settings, one about a primary that it had to replace."""
    told = history.events_of("patroni")
    config: dict[str, Any] = told[0].data.get("config", {}) if told else {}
    expected = scenario.experiment is not None and parts_from_etcd(scenario.experiment.fault)
    hit = hit_postgresql(history) if expected else ()
    return (_settings(scenario, config), *(_replaced(scenario, history, config, shard) for shard in hit))


def _settings(scenario: Scenario, config: dict[str, Any]) -> Finding:
    differing = ", ".join(_differing(scenario, config))
    return Finding(
        check="takeover.settings",
        verdict="fail" if differing else "pass" if config else "inconclusive",
        title="Patroni goes by what the stack asks for",
        measured=", ".join(f"{name} {config[name]}" for name in _ASKED if name in config) or "not told",
        allowed="the stack file's",
        reason=differing or ("" if config else _NOT_TOLD[1]),
        where=Where(group="postgresql"),
        rests_on=needs.RECORD,
    )


def _differing(scenario: Scenario, config: dict[str, Any]) -> Iterator[str]:
    tier = scenario.stack.postgresql
    if tier is None or not isinstance(tier.failover, Patroni):
        return
    for name, field in _ASKED.items():
        asked = getattr(tier.failover, field)
        if name in config and config[name] != asked:
            yield f"{name} is {config[name]} instead of {asked}"


def _replaced(scenario: Scenario, history: History, config: dict[str, Any], hit: HitShard) -> Finding:
    rows = history.ops.of_kind("postgresql.write")
    found = gaps(history, rows, POSTGRESQL, OUTAGE_US)
    outage = longest(tuple(gap for gap in found if gap.end > hit.injection.began))
    elected = promoted_at(history, hit)
    instants = {
        "takeover.elected_s": elected,
        "takeover.first_good_write_s": outage.end if outage and outage.ended else None,
    }
    after = {name: (at - hit.injection.applied) / SECOND_US for name, at in instants.items() if at is not None}
    took_s = after.get("takeover.first_good_write_s")
    low_s, high_s = _expected_s(scenario, config, hit)
    if outage is None:
        verdict, reason = _NO_EFFECT
    elif elected is None or took_s is None:
        verdict, reason = "fail", _NOBODY if elected is None else _NO_ROW
    else:
        verdict, reason = _in_time(took_s, low_s, high_s) if config else _NOT_TOLD
    words = {"takeover.elected_s": "another primary", "takeover.first_good_write_s": "first good write"}
    return Finding(
        check="takeover",
        verdict=verdict,
        title=f"Patroni replaced {hit.primary} as soon as its settings make it",
        measured=", ".join(f"{words[name]} {seconds(value)}" for name, value in after.items()) or "not replaced",
        allowed=f"{low_s:g} s to {high_s:g} s" if config else "not known",
        value=took_s,
        unit="s",
        reason=reason,
        where=Where(group="postgresql", start_us=outage.start, end_us=outage.end)
        if outage
        else Where(group="postgresql"),
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


def _in_time(took_s: float, low_s: float, high_s: float) -> tuple[Verdict, str]:
    if took_s < low_s:
        return "inconclusive", _TOO_SOON
    return ("fail", _TOO_LATE) if took_s > high_s else ("pass", "")
