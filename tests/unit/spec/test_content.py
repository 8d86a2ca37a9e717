"""A stack with the content service reads, or is refused with the field that keeps it from working."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from resilience.errors import SpecError
from resilience.spec.coherence import check_scenario, check_stack
from resilience.spec.content import Content
from resilience.spec.read import read_scenario, read_stack
from resilience.spec.stack import Stack

ROOT = Path(__file__).resolve().parents[3]
STACK = read_stack(ROOT, "stacks/local/content.yaml")
WHOLE = read_stack(ROOT, "stacks/local/whole.yaml")


def test_it_is_the_whole_platform_and_the_content_service() -> None:
    members = tuple(member for member in STACK.members if member.component != "content")
    assert replace(STACK, name="whole", content=None, members=members) == WHOLE
    assert [member.name for member in STACK.of("content")] == ["content-0", "content-1"]


def test_what_services_work_off_the_load_leaves_alone() -> None:
    assert STACK.load_queues == ("session-events", "collaboration-sync")
    assert WHOLE.load_queues == ("session-events", "content-processing", "collaboration-sync")
    assert read_stack(ROOT, "stacks/local/harmonyflow.yaml").load_queues == ()


def without(component: str) -> Stack:
    return replace(STACK, members=tuple(member for member in STACK.members if member.component != component))


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    stack: Stack
    expect: str


CASES = (
    Case(name="no settings", stack=replace(STACK, content=None), expect="content: expected the settings"),
    Case(name="no member", stack=without("content"), expect="expected at least one of component content"),
    Case(
        name="no RabbitMQ",
        stack=replace(without("rabbitmq"), rabbitmq=None,
                      members=tuple(one for one in STACK.members if not one.component.startswith("rabbitmq"))),
        expect="content: expected a stack that has PostgreSQL and RabbitMQ",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case) -> None:
    with pytest.raises(SpecError, match=case.expect) as raised:
        check_stack(case.stack, "a stack")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("stack", "asked", "expect"),
    [
        (WHOLE, {"content_rate_ops_per_s": 10.0}, "expected none: the stack has no content service"),
        (STACK, {"content_rate_ops_per_s_min": 41.0}, "load.content_rate_ops_per_s_min: expected at most 40"),
    ],
    ids=["no such service", "more than is asked for"],
)
def test_a_load_that_cannot_be_is_refused(stack: Stack, asked: dict[str, float], expect: str) -> None:
    about = read_scenario(ROOT, "session-events-baseline")
    with pytest.raises(SpecError, match=expect):
        check_scenario(replace(about, stack=stack, load=replace(about.load, **asked)), "a scenario")


def test_a_field_is_changed_from_the_command_line() -> None:
    with pytest.raises(SpecError, match="it has no content"):
        read_scenario(ROOT, "session-events-baseline", ["content.cache_ttl_s=5"])
    assert msgspec.convert({"cache_ttl_s": 5}, Content) == Content(cache_ttl_s=5.0)
