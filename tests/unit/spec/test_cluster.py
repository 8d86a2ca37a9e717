"""The file that names clusters, read: what it says, and what is refused with its field."""

from pathlib import Path

import pytest

from resilience.errors import SpecError
from resilience.spec.cluster import address_of, cluster_named, fingerprint, read_clusters

RIGHT = "staging: {context: staging-admin, server: 'https://10.20.0.1:6443'}\n"


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "clusters.yaml"
    path.write_text(text)
    return dict(read_clusters(path, "clusters.yaml"))


def test_what_need_not_be_said(tmp_path: Path):
    path = tmp_path / "clusters.yaml"
    path.write_text(RIGHT)
    found = read_clusters(path, "clusters.yaml")["staging"]
    assert (found.context, found.server) == ("staging-admin", "https://10.20.0.1:6443")
    assert (found.kubeconfig, found.ca_sha256, found.repository) == ("~/.kube/config", "", "")
    assert found.overlay == "plain"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- staging", "the file: expected clusters by their names"),
        ("staging: x", "staging: expected a mapping"),
        ("staging: {server: 'https://a'}", "staging.context: is missing"),
        ("staging: {context: a}", "staging.server: is missing"),
        (RIGHT.replace("context", "contxt"), "staging.contxt: unknown field, did you mean 'context'?"),
        (RIGHT.replace("staging-admin", "''"), "staging.context: expected"),
        (RIGHT.replace("https", "http"), "staging.server: expected https:// with a host"),
        (RIGHT.replace("10.20", "ada:secret@10.20"), "staging.server: expected https:// with a host"),
        (RIGHT.replace("6443", "644x"), "staging.server: expected https:// with a host"),
        (RIGHT.replace("6443", "6443/?a=b"), "staging.server: expected https:// with a host"),
        (RIGHT.replace("staging:", "../staging:"), "../staging: expected a name of lower-case letters"),
        (RIGHT.replace("staging:", f"{'s' * 42}:"), "expected a name of lower-case letters"),
        (RIGHT.replace("}", ", ca_sha256: abc}"), "staging.ca_sha256: expected text matching"),
        (RIGHT.replace("}", ", ca_sha256: }"), "staging.ca_sha256: expected text (got nothing)"),
        (RIGHT.replace("}", ", overlay: ../base}"), "staging.overlay: expected text matching"),
        (RIGHT.replace("}", ", repository: '--help'}"), "staging.repository: expected text matching"),
        (RIGHT + RIGHT, "key 'staging' stands twice"),
        ("".join(f"a{number}: {{context: a, server: 'https://a'}}\n" for number in range(51)), "at most 50 clusters"),
    ],
)
def test_what_is_refused_is_told_with_its_field(tmp_path: Path, text: str, words: str):
    assert read(tmp_path, RIGHT)
    with pytest.raises(SpecError) as raised:
        read(tmp_path, text)
    assert words in str(raised.value)
    assert str(raised.value).startswith("clusters.yaml: ")


def test_a_cluster_that_is_not_named(tmp_path: Path):
    path = tmp_path / "clusters.yaml"
    path.write_text(RIGHT)
    with pytest.raises(SpecError, match=r"it names no cluster 'stagin', did you mean 'staging'\?"):
        cluster_named(read_clusters(path, "clusters.yaml"), "stagin", "clusters.yaml")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://API.example", "https://api.example:443/", True),
        ("https://api.example/k8s/", "https://api.example/k8s", True),
        ("https://api.example/k8s/a", "https://api.example/k8s/b", False),
        ("https://api.example:6443", "https://api.example", False),
        ("https://10.0.0.1:6443", "https://10.0.0.2:6443", False),
        ("https://[::1]:6443", "https://[::1]:6444", False),
    ],
)
def test_which_addresses_are_one(one: str, other: str, *, same: bool):
    assert address_of(one)
    assert address_of(other)
    assert (address_of(one) == address_of(other)) == same


def test_a_fingerprint_as_programs_write_it():
    assert fingerprint("AB:0C") == fingerprint("ab0c") == "ab0c"
