"""What has to fit together in a stack that has the personalization service; each check raises `SpecError`."""

from resilience.spec.convert import refuse
from resilience.spec.load import Load
from resilience.spec.stack import Stack

COMPONENT = "personalization"


def check_personalization(stack: Stack, label: str) -> None:
    """Settings and members belong together, and the stores are there that it works with."""
    members = stack.of(COMPONENT)
    if stack.personalization is None:
        if members:
            raise refuse(label, COMPONENT, f"is missing: the stack has members of {COMPONENT}")
        return
    if not members:
        raise refuse(label, "members", f"expected at least one {COMPONENT} (got 0)")
    if not stack.has_outbox:
        missing = "postgresql" if stack.postgresql is None else "rabbitmq"
        raise refuse(label, missing, f"is missing: {COMPONENT} has its profiles, and the ends of sessions, from there")


def check_personalization_load(load: Load, stack: Stack, label: str) -> None:
    """Where suggestions are to be read there is somebody who makes them."""
    rate = load.personalization_rate_ops_per_s
    if stack.personalization is None and rate is not None:
        expected = "expected none: the stack has no personalization"
        raise refuse(label, "load.personalization_rate_ops_per_s", expected, rate)
