import ipaddress

import msgspec

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.platform import addresses_of
from resilience.spec.read import read_stack
from resilience.spec.stack import Member, Stack


def shipped() -> Stack:
    return read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")


def test_every_member_has_an_address_of_its_own_in_the_range_for_tests_of_networks():
    addresses = addresses_of(shipped())
    assert len(set(addresses.values())) == len(shipped().members)
    network = ipaddress.ip_network("198.18.0.0/16")
    assert all(ipaddress.ip_address(address) in network for address in addresses.values())
    assert "198.18.0.1" not in addresses.values()


def test_an_address_shows_the_node():
    stack = shipped()
    addresses = addresses_of(stack)
    thirds = {member.node: addresses[member.name].split(".")[2] for member in stack.members}
    assert len(set(thirds.values())) == len(thirds) == 5


def test_a_member_more_moves_no_other_on_another_node():
    stack = shipped()
    more = msgspec.structs.replace(
        stack, members=(Member(name="session-9", component="session", node="node-1"), *stack.members)
    )
    before, after = addresses_of(stack), addresses_of(more)
    assert {n: a for n, a in after.items() if n in before and stack.member(n).node != "node-1"} == {
        n: a for n, a in before.items() if stack.member(n).node != "node-1"
    }
