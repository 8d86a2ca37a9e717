"""Placement: no node holds two members of one shard, nor so many primaries that its loss leaves no majority.

A scheduler spreads members without knowing who is whose replica, and pairs are made once, when the cluster is formed.
So what became of it is looked at: as the load began, and at the end, since every failover moves a primary onto another
node and nobody moves it back. How many a node holds then is told, and is a miss only where nothing was injected.
Members' nodes are those on which they were found as the run began: a Redis member's data are bound to its node.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from resilience.check import needs
from resilience.check.fault import begun, primary_at
from resilience.check.finding import Finding, Verdict
from resilience.check.window import judged_windows
from resilience.history.read import History
from resilience.spec.scenario import Scenario

START, END = "at the start", "at the end"
_END_US = 2**63 - 1


def placement(scenario: Scenario, history: History) -> tuple[Finding, ...]:
    """One finding for the pairs, one for the primaries."""
    return (_pairs(scenario, history), _primaries(scenario, history))


def _instants(history: History) -> dict[str, int]:
    """When it is looked at, by what that is called: as the first phase that is judged began, and at the end."""
    first = next((window.start for window in islice(judged_windows(history), 1)), 0)
    return {START: first, END: _END_US}


def _pairs(scenario: Scenario, history: History) -> Finding:
    nodes = _nodes(scenario)
    looks = {when: _shards_at(history, instant_us) for when, instant_us in _instants(history).items()}
    wrong = {f"{why} {when}" for when, shards in looks.items() for why in _together(shards, nodes)}
    unknown = [why for when, shards in looks.items() for why in _unseen(scenario, shards, when)]
    return Finding(
        check="placement",
        verdict=_verdict(wrong, unknown),
        title="No node holds two members of one shard",
        measured=f"{len(wrong)} together",
        allowed="none",
        value=float(len(wrong)),
        unit="pairs",
        reason="; ".join(sorted(wrong) or unknown),
        rests_on=_rests_on(wrong),
    )


def _primaries(scenario: Scenario, history: History) -> Finding:
    nodes, groups = _nodes(scenario), range(1, len(scenario.stack.shards) + 1)
    limit, instants = (len(groups) - 1) // 2, _instants(history)
    leaders = {when: {group: primary_at(history, group, at_us) for group in groups} for when, at_us in instants.items()}
    held = {when: Counter(nodes[one] for one in found.values() if one in nodes) for when, found in leaders.items()}
    many = {
        when: [f"{node} holds {number} of {len(groups)} primaries {when}" for node, number in counts if number > limit]
        for when, counts in ((when, sorted(count.items())) for when, count in held.items())
    }
    wrong = many[START] + ([] if begun(history) else many[END])
    unknown = list(_leaderless(leaders, nodes))
    told = [f"{why}: if it fails, too, nobody can be elected" for why in many[END]]
    return Finding(
        check="placement.primaries",
        verdict=_verdict(wrong, unknown),
        title="No node's loss takes the majority of primaries",
        measured="; ".join(f"{when} {_told(count, scenario.stack.nodes)}" for when, count in held.items()),
        allowed=f"≤ {limit} of {len(groups)} on a node {START}",
        value=float(max((number for count in held.values() for number in count.values()), default=0)),
        unit="primaries",
        reason="; ".join(wrong or unknown or told),
        rests_on=_rests_on(wrong),
    )


def _leaderless(leaders: Mapping[str, Mapping[int, str]], nodes: Mapping[str, str]) -> Iterator[str]:
    for when, found in leaders.items():
        yield from (f"shard {group}'s primary was not seen {when}" for group, one in found.items() if one not in nodes)


def _rests_on(wrong: Iterable[str]) -> tuple[str, ...]:
    """What was seen was seen; that nothing was means something of a whole run only."""
    return needs.RECORD if any(wrong) else needs.WHOLE + needs.CONTROL


def _verdict(wrong: Iterable[str], unknown: Iterable[str]) -> Verdict:
    return "fail" if any(wrong) else "inconclusive" if any(unknown) else "pass"


def _nodes(scenario: Scenario) -> Mapping[str, str]:
    return {member.name: member.node for member in scenario.stack.of("redis")}


def _shards_at(history: History, instant_us: int) -> dict[int, set[str]]:
    """The members of each shard at an instant, as they were last seen."""
    roles = (event.data for event in history.events_of("role") if event.at <= instant_us)
    last = {str(role.get("member")): int(role.get("group", 0)) for role in roles}
    shards: dict[int, set[str]] = defaultdict(set)
    for member, group in last.items():
        shards[group].add(member)
    return shards


def _together(shards: Mapping[int, set[str]], nodes: Mapping[str, str]) -> Iterator[str]:
    for group, members in shards.items():
        held = Counter(nodes[member] for member in members if member in nodes)
        yield from (f"{node} holds {number} of shard {group}" for node, number in held.items() if number > 1)


def _unseen(scenario: Scenario, shards: Mapping[int, set[str]], when: str) -> Iterator[str]:
    known = _nodes(scenario).keys()
    for group, shard in enumerate(scenario.stack.shards, 1):
        needed, seen = 1 + len(shard.replicas), len(shards.get(group, set()) & known)
        if seen < needed:
            yield f"{seen} of {needed} members of shard {group} were seen {when}"


def _told(count: Mapping[str, int], nodes: Iterable[str]) -> str:
    return ", ".join(f"{node} {count.get(node, 0)}" for node in nodes)
