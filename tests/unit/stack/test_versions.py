from resilience.stack.versions import without_secrets


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
