"""What has to fit together in a stack that has RabbitMQ: each refusal is of a cluster that could not do its work."""

from collections import Counter

from resilience.spec.convert import refuse
from resilience.spec.stack import Stack

MEMBERS_MIN = 3  # a majority has to survive the loss of one


def check_rabbitmq(stack: Stack, label: str) -> None:
    """Settings and members belong together, and no node takes the majority. Raises `SpecError`."""
    members = stack.of("rabbitmq")
    if stack.rabbitmq is None:
        if members:
            expected = "expected the settings of the cluster that the stack's rabbitmq members form"
            raise refuse(label, "rabbitmq", expected)
        return
    if len(members) < MEMBERS_MIN:
        expected = f"expected at least {MEMBERS_MIN} of component rabbitmq: a majority has to survive the loss of one"
        raise refuse(label, "members", f"{expected} (got {len(members)})")
    if len(members) % 2 == 0:
        expected = "expected an odd number of component rabbitmq: halves that are cut apart have no majority"
        raise refuse(label, "members", f"{expected} (got {len(members)})")
    node, count = Counter(member.node for member in members).most_common(1)[0]
    if 2 * count > len(members):
        expected = f"expected no node that holds a majority of component rabbitmq ({node} holds {count})"
        raise refuse(label, "members", expected)
