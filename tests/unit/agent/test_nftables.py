import pytest

from resilience.agent.error import AgentError
from resilience.agent.nftables import drop_table, links_table, table_name


def test_a_table_is_named_after_its_injection() -> None:
    assert table_name("redis-failover-0a1b2c3d") == "hf_redis_failover_0a1b2c3d"


@pytest.mark.parametrize("bad", ["", "-a", "a b", "a;b", "A", "a}", "../a", "a/b", "a" * 102])
def test_other_names_are_refused(bad: str) -> None:
    with pytest.raises(AgentError):
        table_name(bad)


@pytest.mark.parametrize("bad", ["", "eth0 ", 'e"', "a/b", "a" * 16, "e;x"])
def test_devices_that_are_none_are_refused(bad: str) -> None:
    with pytest.raises(AgentError):
        links_table("hf_x", [bad])


def test_links_drop_all_but_arp_on_every_way_through_the_bridge() -> None:
    script = links_table("hf_x", ["hfv1", "hfv2"])
    assert script.startswith("table bridge hf_x {")
    rules = {line.split()[1]: line for line in script.splitlines() if "chain" in line}
    assert set(rules) == {"forward_drops", "output_drops", "input_drops"}
    assert rules["forward_drops"].count('{ "hfv1", "hfv2" } ether type != arp counter name dropped drop;') == 2
    assert "iifname" not in rules["output_drops"]
    assert "oifname" not in rules["input_drops"]


@pytest.mark.parametrize(
    ("direction", "chains"), [("both", {"input", "output"}), ("in", {"input"}), ("out", {"output"})]
)
def test_drops_by_direction(direction: str, chains: set[str]) -> None:
    script = drop_table("hf_x", ["198.18.1.10", "198.18.2.10"], direction)
    assert {hook for hook in ("input", "output") if f"hook {hook} " in script} == chains
    assert "{ 198.18.1.10, 198.18.2.10 }" in script
    ways = ("in", "out") if direction == "both" else (direction,)
    assert [way for way in ("in", "out") if f"counter name dropped_{way} drop" in script] == list(ways)


@pytest.mark.parametrize(("others", "direction"), [(["198.18.1"], "both"), (["1.2.3.4; x"], "in"), (["1.2.3.4"], "up")])
def test_drops_that_make_no_sense(others: list[str], direction: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        drop_table("hf_x", others, direction)
