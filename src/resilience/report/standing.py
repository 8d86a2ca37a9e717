"""What a person sees of a stack that is up."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from resilience.report.terminal import plain
from resilience.spec.stack import GENERATORS

_DOORS = {"prometheus": "metrics, in a browser", "edge": "sessions and rooms"}


def doors_text(doors: Sequence[tuple[str, str]]) -> RenderableType:
    """The addresses on this machine, one a line."""
    table = Table.grid(padding=(0, 2))
    for member, address in doors:
        table.add_row(plain(member), plain(address, "bold"), Text(_what(member), style="dim"))
    return table


def _what(member: str) -> str:
    return next((what for component, what in _DOORS.items() if member.startswith(component)), "")


def status_screen(
    facts: Mapping[str, str], doors: Sequence[tuple[str, str]], look: Mapping[str, Any]
) -> RenderableType:
    """Addresses, members with their roles, what is injected. ``look`` is the answer of the stack itself."""
    head = f"{facts['stack']} ({facts['scenario']}) is up since {facts['since_utc']}"
    head += f", ends by itself in {left_text(look['left_s'])}"
    members = Table(box=None, pad_edge=False)
    for column in ("member", "node", "role", "server", "restarts"):
        members.add_column(column, justify="right" if column == "restarts" else "left")
    roles = {role["member"]: f"{role['role']}, shard {role['group']}" for role in look["roles"]}
    roles |= {role["member"]: postgresql_part(role) for role in look.get("postgresql", ())}
    roles |= led(look.get("queues", ()))
    for state in look["states"]:
        role = roles.get(state["name"], state["component"])
        cells = (state["name"], state["node"], role, _server(state), str(state["restarts"]))
        members.add_row(*(plain(cell) for cell in cells))
    return Group(plain(head), Text(""), doors_text(doors), Text(""), members, Text(""), *_injections(look["open"]))


def postgresql_part(role: Mapping[str, Any]) -> str:
    """A PostgreSQL member's part, e.g. ``replica, timeline 1, async, 0 bytes behind``."""
    words = [str(role["role"]), *([f"timeline {role['timeline']}"] if role["timeline"] else [])]
    if role["role"] == "replica":
        words += [role["synchrony"] or "not streaming"]
        words += [] if role["lag_bytes"] is None else [f"{role['lag_bytes']} bytes behind"]
    return ", ".join(words)


def led(queues: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What each member leads of the queues; one that is none's leader follows them all."""
    led: dict[str, list[str]] = {}
    for role in queues:
        led.setdefault(role["member"], []).extend([role["queue"]] if role["role"] == "leader" else [])
    return {member: f"leads {', '.join(names)}" if names else "leads no queue" for member, names in led.items()}


def _server(state: Mapping[str, Any]) -> str:
    held = f", held by {', '.join(state['held_by'])}" if state["held_by"] else ""
    if state["running"]:
        return "running" + held
    return ("dead" if state["component"] not in GENERATORS else "none without a run") + held


def _injections(injections: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    if not injections:
        yield Text("nothing is injected", style="dim")
    for one in injections:
        since = one["since_s"]
        lasts = "being injected" if since is None else f"for {since:.0f} s, ends by itself after {one['ttl_s']:.0f} s"
        yield plain(f"injected: {one['fault']} into {', '.join(one['members'])}, {lasts} ({one['id']})", "bold red")


def left_text(seconds: float) -> str:
    """How much time is left, e.g. ``7 h 59 min`` or ``42 s``."""
    hours, rest = divmod(int(seconds), 3_600)
    if hours:
        return f"{hours} h {rest // 60} min"
    return f"{rest // 60} min" if rest >= 120 else f"{rest} s"
