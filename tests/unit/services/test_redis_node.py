"""What an error reply says about the command that it answers."""

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from services.redis_node import REASONS, store_error_from_reply


@pytest.mark.parametrize(
    ("reply", "reason", "outcome"),
    [
        ("MOVED 3999 198.18.0.2:6379", "moved", "fail"),
        ("ASK 3999 198.18.0.2:6379", "moved", "fail"),
        ("CLUSTERDOWN The cluster is down", "clusterdown", "fail"),
        ("READONLY You can't write against a read only replica.", "readonly", "fail"),
        ("LOADING Redis is loading the dataset in memory", "loading", "fail"),
        ("MASTERDOWN Link with MASTER is down", "masterdown", "fail"),
        ("NOREPLICAS Not enough good replicas to write. script: 1, on @user_script:5.", "noreplicas", "fail"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "tryagain", "fail"),
        ("MISCONF Errors writing to the AOF file", "full", "fail"),
        ("OOM command not allowed", "full", "fail"),
        ("NOAUTH Authentication required.", "denied", "fail"),
        ("WRONGPASS invalid username-password pair", "denied", "fail"),
        ("ERR user_script:7: something in the middle of a script", "error", "unknown"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "error", "unknown"),
        ("SOMETHINGNEW we do not know it", "error", "unknown"),
    ],
)
def test_replies(reply: str, reason: str, outcome: str):
    error = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]
    assert isinstance(error, exceptions.RedisError)
    classified = store_error_from_reply(error)
    assert (classified.reason, classified.outcome) == (reason, outcome)
    assert reason in REASONS
