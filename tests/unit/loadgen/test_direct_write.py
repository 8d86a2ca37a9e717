"""What the direct client sends, and what replies mean."""

import pytest
from redis.exceptions import BusyLoadingError, ReadOnlyError, ResponseError

from loadgen.direct_write import WriteForm
from resilience.spec.stack import Async, Wait

ASYNC = WriteForm(Async(), 86_400)
WAIT = WriteForm(Wait(replicas=1, timeout_ms=1_000), 86_400)


def test_commands():
    assert ASYNC.commands("k", "v") == (("SET", "k", "v", "EX", "86400"),)
    assert WAIT.commands("k", "v") == (("SET", "k", "v", "EX", "86400"), ("WAIT", "1", "1000"))
    assert [(form.replies, form.blocks) for form in (ASYNC, WAIT)] == [(1, False), (2, True)]


@pytest.mark.parametrize(
    ("form", "replies", "expect"),
    [
        (ASYNC, [b"OK"], ("ok", "")),
        (ASYNC, [ResponseError("MOVED 100 10.0.0.4:6379")], ("fail", "moved")),
        (ASYNC, [ResponseError("CLUSTERDOWN The cluster is down")], ("fail", "clusterdown")),
        (ASYNC, [ResponseError("NOREPLICAS Not enough good replicas")], ("fail", "noreplicas")),
        (ASYNC, [ReadOnlyError("You can't write against a read only replica.")], ("fail", "readonly")),
        (ASYNC, [BusyLoadingError("Redis is loading")], ("fail", "busyloading")),
        (WAIT, [b"OK", 1], ("ok", "")),
        (WAIT, [b"OK", 2], ("ok", "")),
        (WAIT, [b"OK", 0], ("unknown", "not-durable")),
        (WAIT, [b"OK", ResponseError("UNBLOCKED force unblock")], ("unknown", "not-durable")),
        (WAIT, [ResponseError("MOVED 100 10.0.0.4:6379"), 1], ("fail", "moved")),
    ],
)
def test_outcome(form, replies, expect):
    assert form.outcome(replies) == expect
