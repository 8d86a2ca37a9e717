"""One context of a user's kubeconfig: it leads where their file says, or nothing is done."""

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from resilience.backend.kubernetes.kubeconfig import Pinned, pinned
from resilience.errors import SpecError
from resilience.spec.cluster import NamedCluster
from tests.named import PEM, SERVER, SHA256, Home, home_in


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return home_in(tmp_path, monkeypatch)


def looked_at(home: Home) -> Pinned:
    home.write()
    return pinned(home.config, msgspec.convert(home.entry, NamedCluster), "clusters.yaml: staging")


def test_only_the_context_that_is_named_is_copied(home: Home):
    document = looked_at(home).document
    assert document["clusters"] == [{"name": "named", "cluster": home.staging}]
    assert document["users"] == [{"name": "named", "user": {"token": "s3cret"}}]
    assert document["contexts"] == [{"name": "staging-admin", "context": {"cluster": "named", "user": "named"}}]
    assert document["current-context"] == "staging-admin", "whatever the user's own is"


def test_the_copy_is_its_owners_alone(home: Home, tmp_path: Path):
    path = tmp_path / "kept" / "staging.kubeconfig"
    looked_at(home).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == looked_at(home).document
    assert [one.name for one in path.parent.iterdir()] == ["staging.kubeconfig"]


def test_another_server_or_certificate_has_another_mark(home: Home):
    mark = looked_at(home).mark
    home.entry.pop("ca_sha256")
    assert looked_at(home).mark == mark
    home.staging["certificate-authority-data"] = base64.b64encode(f"{PEM}{PEM}".encode()).decode()
    assert looked_at(home).mark != mark
    home.staging["server"] = home.entry["server"] = "https://10.20.0.2:6443"
    assert len({mark, looked_at(home).mark}) == 2


def test_files_beside_the_kubeconfig_are_found_from_anywhere(home: Home):
    (home.config.parent / "ca.pem").write_text(PEM)
    home.staging.pop("certificate-authority-data")
    home.staging["certificate-authority"] = "ca.pem"
    home.user.update({"client-certificate": "ada.pem", "client-key": "/keys/ada", "exec": {"command": "./token"}})
    found = looked_at(home).document
    kept = found["clusters"][0]["cluster"]
    assert base64.b64decode(kept["certificate-authority-data"]).decode() == PEM, "it may be another one tomorrow"
    assert "certificate-authority" not in kept
    user = found["users"][0]["user"]
    assert user["client-certificate"] == str(home.config.parent / "ada.pem")
    assert user["client-key"] == "/keys/ada"
    assert Path(user["exec"]["command"]) == home.config.parent / "token"
    home.user["exec"] = {"command": "aws"}
    assert looked_at(home).document["users"][0]["user"]["exec"] == {"command": "aws"}


def test_without_a_certificate_in_the_entry_the_kubeconfigs_is_enough(home: Home):
    home.entry["ca_sha256"] = ":".join(SHA256[at : at + 2] for at in range(0, 64, 2)).upper()
    assert looked_at(home).server == SERVER
    del home.entry["ca_sha256"], home.staging["certificate-authority-data"]
    assert looked_at(home).certificates == b"", "a server that the machine's own certificates vouch for"


def leads_elsewhere(home: Home) -> None:
    home.staging["server"] = "https://10.10.0.1:6443"


def leads_to_an_open_port(home: Home) -> None:
    home.staging["server"] = SERVER.replace("https", "http")


def has_another_certificate(home: Home) -> None:
    other = PEM.replace("YSBjZ", "YiBjZ")
    assert other != PEM
    home.staging["certificate-authority-data"] = base64.b64encode(other.encode()).decode()


def has_two_certificates(home: Home) -> None:
    home.staging["certificate-authority-data"] = base64.b64encode(f"{PEM}{PEM}".encode()).decode()


def has_no_certificate(home: Home) -> None:
    del home.staging["certificate-authority-data"]


def has_a_certificate_that_is_none(home: Home) -> None:
    home.staging["certificate-authority-data"] = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nx").decode()


def has_a_certificate_that_cannot_be_read(home: Home) -> None:
    home.staging["certificate-authority-data"] = "%%%"


def names_a_file_that_there_is_not(home: Home) -> None:
    del home.staging["certificate-authority-data"]
    home.staging["certificate-authority"] = "none.pem"


def checks_nothing(home: Home) -> None:
    home.staging["insecure-skip-tls-verify"] = True


def lacks_the_context(home: Home) -> None:
    home.entry["context"] = "staging-admim"


def lacks_the_cluster(home: Home) -> None:
    home.kubeconfig["clusters"].pop()


def lacks_the_user(home: Home) -> None:
    home.kubeconfig["users"].clear()


def has_the_context_twice(home: Home) -> None:
    home.kubeconfig["contexts"].append(home.kubeconfig["contexts"][1])


def has_a_context_of_nothing(home: Home) -> None:
    home.kubeconfig["contexts"][1]["context"] = None


def has_no_lists(home: Home) -> None:
    home.kubeconfig["contexts"] = "staging-admin"


def is_a_list(home: Home) -> None:
    home.kubeconfig = []  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            leads_elsewhere,
            "leads to 'https://10.10.0.1:6443', expected 'https://10.20.0.1:6443': mend whichever is wrong",
        ),
        (leads_to_an_open_port, "leads to 'http://10.20.0.1:6443', expected"),
        (has_another_certificate, f"has another certificate: {'{64}'}, expected {SHA256}"),
        (has_two_certificates, "has another certificate: 2 of its own, expected"),
        (has_no_certificate, "has another certificate: 0 of its own, expected"),
        (has_a_certificate_that_is_none, "certificate-authority: expected a certificate in PEM"),
        (has_a_certificate_that_cannot_be_read, "certificate-authority: cannot be read"),
        (names_a_file_that_there_is_not, "certificate-authority: cannot be read (No such file"),
        (checks_nothing, "does not check who its server is"),
        (lacks_the_context, "it has no context 'staging-admim', did you mean 'staging-admin'?"),
        (lacks_the_cluster, "it has no cluster 'staging'"),
        (lacks_the_user, "it has no user 'ada'"),
        (has_the_context_twice, "context 'staging-admin' stands twice"),
        (has_a_context_of_nothing, "context 'staging-admin': expected a mapping (got nothing)"),
        (has_no_lists, "contexts: expected a list"),
        (is_a_list, "expected a kubeconfig"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_leads_anywhere_else_is_one_line(home: Home, spoil: Callable[[Home], None], words: str):
    assert looked_at(home).server == SERVER
    spoil(home)
    with pytest.raises(SpecError) as raised:
        looked_at(home)
    told = str(raised.value)
    for part in words.split("{64}"):
        assert part in told
    assert len(told.splitlines()) == 1
    assert str(home.config) in told
