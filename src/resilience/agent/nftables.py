"""One nftables table for each injection, named after it; no table of anybody else is ever touched."""

import ipaddress
import json
import os
import re
import subprocess
from collections.abc import Sequence

from resilience.agent.error import AgentError

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,100}")
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_TIMEOUT_S = 5.0
DROPPED_IN, DROPPED_OUT = "dropped_in", "dropped_out"  # the counters of a member's own table


def table_name(injection_id: str) -> str:
    """The name of an injection's table. Raises `AgentError` if the id has anything but a-z, 0-9 and hyphens."""
    if not _ID.fullmatch(injection_id):
        raise AgentError(f"injection id {injection_id!r}: expected a-z, 0-9 and hyphens")
    return "hf_" + injection_id.replace("-", "_")


def links_table(table: str, devices: Sequence[str]) -> str:
    """A table that drops every frame but ARP to and from bridge ports; ARP passes so that neighbour entries stay and
    nobody is told "no route to host".
    """
    names = ", ".join(f'"{_checked_device(device)}"' for device in devices)
    arriving = f"iifname {{ {names} }} ether type != arp counter name dropped drop;"
    leaving = f"oifname {{ {names} }} ether type != arp counter name dropped drop;"
    chains = {"forward": arriving + " " + leaving, "output": leaving, "input": arriving}
    return _table("bridge", table, chains, ("dropped",))


def drop_table(table: str, others: Sequence[str], direction: str) -> str:
    """A table for a member's own network: drops packets from (``in``), to (``out``) or from and to (``both``) others.

    A dropped packet to somebody is seen by its sender: `sendto` of UDP raises EPERM, TCP tries again silently.
    """
    addresses = ", ".join(str(ipaddress.IPv4Address(other)) for other in others)
    arriving = {"input": f"ip saddr {{ {addresses} }} counter name {DROPPED_IN} drop;"}
    leaving = {"output": f"ip daddr {{ {addresses} }} counter name {DROPPED_OUT} drop;"}
    chains = {"in": arriving, "out": leaving, "both": arriving | leaving}
    return _table("inet", table, chains[direction], (DROPPED_IN, DROPPED_OUT))


def load(script: str) -> None:
    """Loads a script in one transaction, in the calling thread's network. Raises `AgentError`."""
    _nft("-f", "-", script=script)


def delete(family: str, table: str) -> None:
    """Deletes a table; harmless if there is none. Raises `AgentError`."""
    load(f"add table {family} {table}\ndelete table {family} {table}\n")


def exists(family: str, table: str) -> bool:
    """Whether there is such a table. Raises `AgentError`."""
    listed = json.loads(_nft("-j", "list", "tables", family))["nftables"]
    return any(item.get("table", {}).get("name") == table for item in listed)


def dropped_packets(family: str, table: str, counter: str = "") -> int:
    """How many packets a table has dropped, by one of its counters or all; 0 if there is no such table.

    Raises `AgentError`.
    """
    if not exists(family, table):
        return 0
    listed = json.loads(_nft("-j", "list", "counters", "table", family, table))["nftables"]
    counters = [item["counter"] for item in listed if "counter" in item]
    return sum(int(one["packets"]) for one in counters if counter in {"", one["name"]})


def _table(family: str, table: str, rules: dict[str, str], counters: Sequence[str]) -> str:
    declared = "\n".join(f"  counter {name} {{ }}" for name in counters)
    chains = "\n".join(
        f"  chain {hook}_drops {{ type filter hook {hook} priority -300; policy accept; {rule} }}"
        for hook, rule in rules.items()
    )
    return f"table {family} {table} {{\n{declared}\n{chains}\n}}\n"


def _checked_device(name: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise AgentError(f"device {name!r}: not a name of a network device")
    return name


def _nft(*arguments: str, script: str = "") -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            ["nft", *arguments],
            input=script,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={"PATH": path},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentError(f"nft: {error}") from error
    if done.returncode != 0:
        raise AgentError(f"nft {' '.join(arguments)}: {' '.join(done.stderr.split())[:300]}")
    return done.stdout
