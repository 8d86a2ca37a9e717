"""Every kind of damage to the file that names clusters, and to a kubeconfig: one line, exit 2, no cluster asked."""

import json
import os
import re
from pathlib import Path

import pytest

from resilience.backend.kubernetes.api import Api
from resilience.errors import HostError
from tests.malformed.conftest import WOULD_START, Command, Said
from tests.malformed.mutation import kinds, mutation
from tests.named import Home, home_in

SEEDS = (1, 2)  # each spoils another field
DOWN = ("down", "--stack", "kubernetes:staging")
# What leaves a file right: ends of lines and a byte-order mark are YAML's, a name is only a word of --stack, and what
# is dropped need not be said. A kubeconfig belongs to other programs, which write more into it than is read here.
HARMLESS = {
    "clusters": {
        r"byte-order-mark|carriage-returns|old-line-ends": "",
        r"dropped": r"staging\.(ca_sha256|overlay|repository|kubeconfig)",
    },
    "kubeconfig": {
        r"byte-order-mark|carriage-returns|old-line-ends": "",
        r".*": r"current-context|apiVersion|kind|users\.\*\.user(\.token)?|contexts\.\*\.context\.namespace",
        r"huge": "",  # of a kubeconfig 4 MiB are read
    },
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home in which all is right, with all that may be said; whoever opens a cluster there is stopped."""

    def opened(*_there: object, **_how: object) -> Api:
        raise HostError(WOULD_START)

    found = home_in(tmp_path / "home", monkeypatch)
    found.entry |= {"overlay": "plain", "repository": "registry.example/resilience", "kubeconfig": str(found.config)}
    found.kubeconfig["contexts"].pop(0)  # of what is not asked for, nothing need be right
    found.kubeconfig["clusters"].pop(0)
    found.write()
    monkeypatch.setattr(Api, "of_context", opened)
    return found


def harmless(which: str, kind: str, place: str) -> bool:
    return any(re.fullmatch(one, kind) and re.fullmatch(where, place) for one, where in HARMLESS[which].items())


def assert_refused(said: Said, word: str) -> None:
    assert said.code == 2, said.err
    assert said.began == ()
    line = said.err.removesuffix("\n")
    assert line.startswith("resilience: ")
    assert line.isprintable()
    assert len(line) < 700
    assert word in line


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("which", HARMLESS)
def test_a_spoilt_file_is_one_line_or_harmless(which: str, kind: str, home: Home, command: Command) -> None:
    path = home.clusters if which == "clusters" else home.config
    content = path.read_bytes()
    for seed in SEEDS:
        spoilt = mutation(path.name, content, kind, seed)
        if spoilt is None:
            continue
        path.write_bytes(spoilt.content)
        said = command(*DOWN)
        if said.code == 4:
            assert harmless(which, kind, spoilt.place), f"taken as right: {kind} at {spoilt.place}"
        else:
            assert_refused(said, str(home.folder))


def test_what_is_right_is_taken(home: Home, command: Command) -> None:
    said = command(*DOWN)
    assert (said.code, said.err) == (4, f"resilience: {WOULD_START}\n")
    assert json.loads(home.config.read_text())["current-context"] == "production"


@pytest.mark.parametrize("put", ["folder", "pipe", "circle", "nothing"])
@pytest.mark.parametrize("which", ["clusters", "config"])
def test_what_is_no_file_is_one_line(which: str, put: str, home: Home, command: Command) -> None:
    path: Path = getattr(home, which)
    path.unlink()
    if put == "folder":
        path.mkdir()
    elif put == "pipe":
        os.mkfifo(path, 0o600)
    elif put == "circle":
        path.symlink_to(path.name)
    assert_refused(command(*DOWN), str(path))
