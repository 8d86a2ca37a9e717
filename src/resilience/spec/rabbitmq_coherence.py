"""What has to fit together in a stack that has RabbitMQ: each refusal is of a cluster that could not do its work."""

from collections import Counter

from resilience.spec.convert import refuse
from resilience.spec.fault import Target
from resilience.spec.load import Load
from resilience.spec.rabbitmq import Rabbitmq
from resilience.spec.stack import Stack

MEMBERS_MIN = 3  # a majority has to survive the loss of one
GIVEN_UP_AFTER = 1.25  # of the tick time, at most: how long a silent member may be taken for a member


def check_rabbitmq(stack: Stack, label: str) -> None:
    """Settings and members belong together, and no node takes the majority. Raises `SpecError`."""
    members, clients = stack.of("rabbitmq"), len(stack.of("rabbitmq-client"))
    if stack.rabbitmq is None:
        if members or clients:
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
    if clients != 1:
        raise refuse(label, "members", f"expected exactly one rabbitmq-client (got {clients})")


def check_rabbitmq_load(load: Load, stack: Stack, label: str) -> None:
    """Where messages are to be published there are queues, and no more are demanded than asked for."""
    least, rate = load.rabbitmq_rate_ops_per_s_min, load.rabbitmq_ops_per_s
    if stack.rabbitmq is None:
        for field in ("rabbitmq_rate_ops_per_s", "rabbitmq_rate_ops_per_s_min", "rabbitmq_poison_every"):
            if (value := getattr(load, field)) is not None:
                raise refuse(label, f"load.{field}", "expected none: the stack has no RabbitMQ", value)
    elif least is not None and least > rate:
        raise refuse(label, "load.rabbitmq_rate_ops_per_s_min", f"expected at most {rate:g}, what is asked for", least)
    elif load.rabbitmq_poison_every is not None:
        _check_poison(stack.rabbitmq, load.rabbitmq_poison_every, label)


def _check_poison(rabbitmq: Rabbitmq, every: int, label: str) -> None:
    """What is rejected comes to an end: by the delivery limit, which a quorum queue alone has."""
    if rabbitmq.queue_kind != "quorum":
        expected = "expected none where queues are classic: they hand a rejected message out again without end"
        raise refuse(label, "load.rabbitmq_poison_every", expected, every)
    if rabbitmq.acknowledgement != "manual":
        expected = "expected none where acknowledgement is automatic: nothing can be rejected any more"
        raise refuse(label, "load.rabbitmq_poison_every", expected, every)


def check_queue(target: Target, stack: Stack, label: str, field: str) -> None:
    """A leader and a follower are those of a queue, which has them. Raises `SpecError`."""
    if target.component != "rabbitmq":
        if target.queue is not None:
            raise refuse(label, f"{field}.queue", "expected none: only rabbitmq has queues", target.queue)
        if target.role in {"leader", "follower"}:
            raise refuse(label, f"{field}.role", "expected another role: only queues of rabbitmq have it", target.role)
        return
    if target.role in {"primary", "replica"}:
        raise refuse(label, f"{field}.role", "expected leader, follower or any: no queue has this one", target.role)
    if (target.queue is None) != (target.role == "any"):
        expected = "expected the queue" if target.queue is None else "expected leader or follower of the queue"
        raise refuse(label, f"{field}.{'queue' if target.queue is None else 'role'}", expected, target.role)
    if target.role == "follower" and stack.rabbitmq is not None and stack.rabbitmq.queue_kind == "classic":
        raise refuse(label, f"{field}.role", "expected leader: a classic queue has no followers", target.role)


def least_fault_s(target: Target, stack: Stack) -> float:
    """How long a fault has to last at least, so that the others have noticed whatever it is: seconds."""
    if target.component != "rabbitmq" or stack.rabbitmq is None:
        return 0.0
    return GIVEN_UP_AFTER * stack.rabbitmq.net_ticktime_s + 5
