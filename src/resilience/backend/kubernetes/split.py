"""Divides an injection among the agents that carry it out: each sees the pods of its own node only.

::

    steps    the agent of the node that the members stand on
    watches  the agent of the node that is looked at (``of``, ``in``), or looked from (``via``); the witness, an
             unprivileged pod on the observer node, looks for all members of that node

What another node's pod is to an agent is an address. A datagram cannot be looked for over two nodes (no policy lets one
through): connections take its place, and the drop counters of the injection's own table tell the directions.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from resilience.backend.base import MemberState
from resilience.backend.kubernetes.reach import may_reach
from resilience.errors import FaultError
from resilience.spec.stack import OBSERVER, PORTS

WITNESS = "witness"  # who looks, where the harness' agents are named by the node that they stand on
_SUFFERERS = ("members", "folders")
_DIRECTIONS: Mapping[str, list[str]] = {"in": ["in"], "out": ["out"], "both": ["in", "out"]}

Json = dict[str, Any]


def split(injection: Mapping[str, Any], states: Mapping[str, MemberState]) -> dict[str, Json]:
    """The part of each agent, by its node (or `WITNESS`); the one with the steps comes last.

    Raises `FaultError` for what no single agent can do.
    """
    if injection.get("prelude"):
        raise FaultError("a prelude is not possible in a cluster: its end would have to cross nodes")
    doer = _doer(injection["steps"])
    watches = _counted([item for watch in injection["watch"] for item in _possible(watch, states)], injection["steps"])
    by_agent: dict[str, list[Json]] = {}
    for watch in watches:
        agent, seen = _from(watch, states)
        known = by_agent.setdefault(agent, [])
        if seen not in known:
            known.append(seen)
    if doer:
        by_agent[doer] = by_agent.pop(doer, [])
    return {
        agent: {
            "id": injection["id"],
            "ttl_s": injection["ttl_s"],
            "steps": list(injection["steps"]) if agent == doer else [],
            "watch": seen,
        }
        for agent, seen in by_agent.items()
    }


def _doer(steps: Any) -> str:
    """The node that all steps are taken on; "" if there are none."""
    hosts = {place["host"] for step in steps for place in _places(step)}
    if len(hosts) > 1:
        raise FaultError(f"the fault would be done on several nodes at once ({', '.join(sorted(hosts))})")
    return next(iter(hosts), "")


def _places(step: Mapping[str, Any]) -> Iterator[Json]:
    for key in _SUFFERERS:
        yield from step.get(key, ())
    if "member" in step:
        yield step["member"]


def _possible(watch: Json, states: Mapping[str, MemberState]) -> Iterator[Json]:
    """The watch as it can be taken in a cluster; nothing where it would show nothing."""
    if "via" not in watch:
        yield watch
        return
    via, to = (states[watch[end]["name"]] for end in ("via", "to"))
    if not may_reach(via.component, to.component):
        return
    if watch["probe"] == "datagram":
        yield {"probe": "unreachable", "via": watch["via"], "to": watch["to"], "port": PORTS[to.component]}
    else:
        yield watch


def _counted(watches: list[Json], steps: Any) -> list[Json]:
    """Drop counters by direction: of those that are cut, each that the other watches send something in.

    A rule that drops in one direction only meets the answers to what passes in the other, too.
    """
    cut = next((step for step in steps if step["primitive"] == "drop"), None)
    if cut is None:
        return watches
    name, wanted = cut["member"]["name"], _DIRECTIONS[cut["direction"]]
    if cut["direction"] == "both":
        sent = {"in": any(watch.get("to", {}).get("name") == name for watch in watches)}
        sent["out"] = any(watch.get("via", {}).get("name") == name for watch in watches)
        wanted = [direction for direction in wanted if sent[direction]]
    return [{**watch, "directions": wanted} if watch["probe"] == "counter" else watch for watch in watches]


def _from(watch: Json, states: Mapping[str, MemberState]) -> tuple[str, Json]:
    """Who takes a watch, and the watch as that one is told it."""
    if "via" not in watch:
        place = watch.get("of") or watch["in"]
        return place["host"], watch
    seen = {**watch, "to": _elsewhere(watch["to"])}
    if states[watch["via"]["name"]].node == OBSERVER:
        return WITNESS, {**seen, "via": {**_elsewhere({"name": WITNESS}), "here": True}}
    return watch["via"]["host"], seen


def _elsewhere(place: Mapping[str, Any]) -> Json:
    return {"name": place["name"], "address": place.get("address", ""), "init_pid": 0, "init_start": 0}
