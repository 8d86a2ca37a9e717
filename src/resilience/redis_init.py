"""``python -m resilience.redis_init``: forms the Redis Cluster from within a Kubernetes cluster (a Job).

It waits for the members' pods, pairs them across nodes, forms what is not formed and waits until the cluster is ready;
run again it looks, and does what is missing.
"""

import sys
from pathlib import Path

from resilience import job
from resilience.backend.kubernetes.api import Api
from resilience.spec.stack import Shard, Stack
from resilience.stack import redis_cluster


def form(stack: Stack, api: Api, password: Path, deadline: float, say: job.Say) -> None:
    """Waits for the pods, forms, waits for readiness. Raises `StackError`."""
    platform = job.platform_with(stack, api, password, "redis")
    job.wait_pods(platform, "redis", "Redis", deadline)
    for shard in platform.stack.shards:
        say(f"shard: {', '.join(f'{name} on {platform.stack.member(name).node}' for name in _members(shard))}")
    redis_cluster.form(platform, deadline)
    redis_cluster.wait_ready(platform, deadline)
    say("the cluster is ready")


def _members(shard: Shard) -> tuple[str, ...]:
    return (shard.primary, *shard.replicas)


if __name__ == "__main__":
    sys.exit(job.run("redis_init", form))
