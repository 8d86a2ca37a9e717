"""What has to fit together where a stack has the content service: each refusal is of one that could not do its work."""

from resilience.spec.convert import refuse
from resilience.spec.load import Load
from resilience.spec.stack import Stack


def check_content(stack: Stack, label: str) -> None:
    """Settings and members belong together, and the stores that it needs are there. Raises `SpecError`."""
    members = stack.of("content")
    if stack.content is None:
        if members:
            raise refuse(label, "content", "expected the settings of the stack's content members")
        return
    if not members:
        raise refuse(label, "members", "expected at least one of component content (got 0)")
    if not stack.has_outbox:
        raise refuse(label, "content", "expected a stack that has PostgreSQL and RabbitMQ, for articles and their jobs")


def check_content_load(load: Load, stack: Stack, label: str) -> None:
    """Articles are asked for where there are any, and no more are demanded than asked for. Raises `SpecError`."""
    least, rate = load.content_rate_ops_per_s_min, load.content_ops_per_s
    if stack.content is None:
        for field in ("content_rate_ops_per_s", "content_rate_ops_per_s_min"):
            if (value := getattr(load, field)) is not None:
                raise refuse(label, f"load.{field}", "expected none: the stack has no content service", value)
    elif least is not None and least > rate:
        raise refuse(label, "load.content_rate_ops_per_s_min", f"expected at most {rate:g}, what is asked for", least)
