"""``python -m resilience.rabbitmq_init``: declares RabbitMQ's queues from within a Kubernetes cluster (a Job).

It waits for the members' pods and until each of them sees all others, declares what is not declared and waits until
every queue has its leader and all copies; run again it looks, and does what is missing.
"""

import sys
from pathlib import Path

from resilience import job
from resilience.backend.kubernetes.api import Api
from resilience.spec.stack import Stack
from resilience.stack import rabbitmq


def form(stack: Stack, api: Api, password: Path, deadline: float, say: job.Say) -> None:
    """Waits for the pods, declares, waits for readiness. Raises `StackError`."""
    platform = job.platform_with(stack, api, password, "rabbitmq")
    job.wait_pods(platform, "rabbitmq", "RabbitMQ", deadline)
    say(f"one cluster after {rabbitmq.form(platform, deadline):.1f} s")
    rabbitmq.wait_ready(platform, deadline)
    for role in rabbitmq.queue_roles(platform):
        if role.role == "leader":
            say(f"{role.queue}: led by {role.member}")


if __name__ == "__main__":
    sys.exit(job.run("rabbitmq_init", form))
