from pathlib import Path

import msgspec

from resilience.backend.settings import redis_settings
from resilience.spec.read import read_stack
from resilience.stack.versions import differing, without_secrets

ROOT = Path(__file__).resolve().parents[3]
STACK = read_stack(ROOT, "stacks/local/harmonyflow.yaml")


def test_secrets_are_left_out_by_name_and_by_value():
    config = {
        "requirepass": "s3cret",
        "masterauth": "s3cret",
        "tls-key-file-pass": "",
        "bind": "0.0.0.0",
        "some-uri": "redis://:s3cret@host",
        "appendonly": "yes",
    }
    assert without_secrets(config, "s3cret") == {"appendonly": "yes", "bind": "0.0.0.0"}


def test_without_a_secret_nothing_is_taken_for_one():
    assert without_secrets({"appendonly": "yes", "dir": "/data"}, "") == {"appendonly": "yes", "dir": "/data"}


def test_what_is_not_as_the_stack_file_has_it_is_told():
    asked = redis_settings(STACK)
    assert asked["save"] == "21600 1"
    assert not {"requirepass", "masterauth", "cluster-announce-ip"} & set(asked)
    config = asked | {"maxclients": "10000"}
    assert differing(config, asked) == {}
    del config["dir"]
    config |= {"appendonly": "no", "save": ""}
    told = {
        "dir": "not told instead of /data", "appendonly": "no instead of yes", "save": "nothing instead of 21600 1",
    }  # fmt: skip
    assert differing(config, asked) == told


def test_a_stack_without_snapshots_asks_for_none():
    redis = msgspec.structs.replace(STACK.redis, snapshot_every_s=0)
    assert redis_settings(msgspec.structs.replace(STACK, redis=redis))["save"] == ""
