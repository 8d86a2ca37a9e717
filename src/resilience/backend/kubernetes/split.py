"""Divides an injection among the agents that carry it out: each sees the pods of its own node only.

::

    steps    the agent of the node that the members stand on
    nodes    what is done to whole nodes, and what they are: the machine under them. Their own agents are lost with them
    orders   what the cluster is asked to do (a drain, a deletion, …), and what became of it: the machine, likewise
    watches  the agent of the node that is looked at (``of``, ``in``), or looked from (``via``); the witness, an
             unprivileged pod on the observer node, looks for all members of that node

What another node's pod is to an agent is an address. A datagram cannot be looked for over two nodes (no policy lets one
through): connections take its place, and the drop counters of the injection's own table tell the directions.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from resilience.backend.base import MemberState
from resilience.backend.kubernetes.reach import door, is_open_throughout, may_reach
from resilience.errors import FaultError
from resilience.spec.stack import OBSERVER

MACHINE = "machine"  # who does something to whole nodes, likewise
WITNESS = "witness"  # who looks, where the harness' agents are named by the node that they stand on
LOOKERS_STAY_S = 150.0  # those that look must still be there when a node's pods are back, which takes a while
_ORDERS = frozenset({"drain", "delete", "scale", "deny", "rollout"})  # what the cluster is asked to do, by the machine
_SEEN_BY_MACHINE = frozenset({"node", "drained", "deleted", "scaled", "denied", "rolled-out"})
_BY_DOOR = frozenset({"reachable", "unreachable", "refused"})  # they ask for no answer but the network's
_SUFFERERS = ("members", "folders")
_DIRECTIONS: Mapping[str, list[str]] = {"in": ["in"], "out": ["out"], "both": ["in", "out"]}

Json = dict[str, Any]


def split(injection: Mapping[str, Any], states: Mapping[str, MemberState]) -> dict[str, Json]:
    """The part of each agent, by its node (or `WITNESS`); the one with the steps comes last.

    Raises `FaultError` for what no single agent can do.
    """
    if injection.get("prelude"):
        raise FaultError("a prelude is not possible in a cluster: its end would have to cross nodes")
    lost = {node["host"] for step in injection["steps"] for node in step.get("nodes", ())}
    ordered = any(step["primitive"] in _ORDERS for step in injection["steps"])
    doer = MACHINE if lost or ordered else _doer(injection["steps"])
    watches = _counted([item for watch in injection["watch"] for item in _possible(watch, states)], injection["steps"])
    by_agent: dict[str, list[Json]] = {}
    watches = [watch for watch in watches if _outlives(watch, lost)]
    watches += [_of_nodes(step) for step in injection["steps"] if "nodes" in step]
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
            "ttl_s": injection["ttl_s"] + (LOOKERS_STAY_S if lost and agent != doer else 0.0),
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


def _outlives(watch: Json, lost: set[str]) -> bool:
    """Whether a watch can be taken while these nodes are away; a bridge that all links end in there is none here."""
    if watch["probe"] in _SEEN_BY_MACHINE:
        return True
    stand: Json = watch.get("via") or watch.get("of") or watch.get("in") or {}
    return bool(stand) and stand.get("host") not in lost


def _of_nodes(step: Mapping[str, Any]) -> Json:
    """What the machine itself sees of a step."""
    return {"probe": "node", "nodes": step["nodes"], "after": step["primitive"]}


def _possible(watch: Json, states: Mapping[str, MemberState]) -> Iterator[Json]:
    """The watch as it can be taken in a cluster; nothing where it would show nothing."""
    if "via" not in watch:
        yield watch
        return
    via, to = (states[watch[end]["name"]] for end in ("via", "to"))
    if not may_reach(via.component, to.component):
        return
    port = door(via.component, to.component)
    if watch["probe"] == "datagram":
        yield {"probe": "unreachable", "via": watch["via"], "to": watch["to"], "port": port}
    elif watch["probe"] not in _BY_DOOR:
        yield watch
    elif watch["probe"] != "reachable" or is_open_throughout(via.component, to.component):
        yield {**watch, "port": port}


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
    if watch["probe"] in _SEEN_BY_MACHINE:
        return MACHINE, watch
    if "via" not in watch:
        place = watch.get("of") or watch["in"]
        return place["host"], watch
    seen = {**watch, "to": _elsewhere(watch["to"])}
    if states[watch["via"]["name"]].node == OBSERVER:
        return WITNESS, {**seen, "via": {**_elsewhere({"name": WITNESS}), "here": True}}
    return watch["via"]["host"], seen


def _elsewhere(place: Mapping[str, Any]) -> Json:
    return {"name": place["name"], "address": place.get("address", ""), "init_pid": 0, "init_start": 0}
