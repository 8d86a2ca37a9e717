import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from resilience.backend.local.place import Owner, cache_dir, cache_elsewhere, calling_user


@dataclass(frozen=True)
class Case:
    name: str
    environment: dict[str, str]
    expect: Path


CASES = (
    Case("the user's cache", {"HOME": "/home/ada"}, Path("/home/ada/.cache/harmonyflow")),
    Case("a cache elsewhere", {"HOME": "/home/ada", "XDG_CACHE_HOME": "/big"}, Path("/big/harmonyflow")),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cache_is_the_calling_users(case, monkeypatch):
    for name in ("SUDO_UID", "SUDO_GID", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    assert cache_dir(calling_user()) == case.expect


def test_under_sudo_everything_is_the_callers(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1")  # daemon: on every system
    monkeypatch.setenv("SUDO_GID", "1")
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("XDG_CACHE_HOME", "/root/.cache")
    owner = calling_user()
    assert (owner.uid, owner.gid) == (1, 1)
    assert owner.home != Path("/root")
    assert cache_dir(owner) == owner.home / ".cache" / "harmonyflow"
    assert cache_elsewhere(owner) == "make it a link to another place", "no variable that is not read is named"


def test_a_user_without_sudo_keeps_what_is_theirs():
    owner = Owner(os.geteuid(), os.getegid(), Path("/"))
    assert not owner.needs_handing_over
    assert "XDG_CACHE_HOME" in cache_elsewhere(owner)
