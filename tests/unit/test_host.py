"""Every problem that a machine can have is found, named with what mends it, and not found where it is not."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from resilience import host
from resilience.errors import HostError
from resilience.host import Facts

HEALTHY = Facts(
    system="Linux",
    root=True,
    building=True,
    cache=Path("/home/ada/.cache/harmonyflow"),
    cache_elsewhere="name another place by XDG_CACHE_HOME",
    cache_free_bytes=host.IMAGE_BYTES,
    reports=Path("/srv/project/reports"),
    report_free_bytes=host.REPORT_BYTES,
    memory_free_bytes=host.MEMORY_BYTES,
)
APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    change: dict[str, Any]
    says: tuple[str, ...] = ()  # parts of the one problem's line; none: there is no problem


CASES = (
    Case(name="healthy", change={}),
    Case(name="healthy as a user", change={"root": False}),
    Case(
        name="not Linux", change={"system": "Darwin", "memory_free_bytes": 0}, says=("this is Darwin", "Linux machine")
    ),
    Case(
        name="no nft",
        change={"missing_tools": frozenset({"nft"})},
        says=("'nft' is not installed: apt-get install nftables",),
    ),
    Case(
        name="no ip, as a user",
        change={"missing_tools": frozenset({"ip"}), "root": False},
        says=("'ip' is not installed: sudo apt-get install iproute2",),
    ),
    Case(
        name="no builder",
        change={"missing_tools": frozenset({"mmdebstrap"})},
        says=("apt-get install mmdebstrap",),
    ),
    Case(
        name="no builder, but an image",
        change={"missing_tools": frozenset({"mmdebstrap"}), "building": False},
    ),
    Case(
        name="no uidmap, as a user",
        change={"missing_tools": frozenset({"newuidmap"}), "root": False},
        says=("sudo apt-get install uidmap",),
    ),
    Case(name="no uidmap, as root", change={"missing_tools": frozenset({"newuidmap"})}),
    Case(
        name="no namespaces, as root",
        change={"namespaces_refused": "unshare: Operation not permitted"},
        says=("namespaces cannot be made (unshare: Operation not permitted)", "--privileged"),
    ),
    Case(
        name="no namespaces, AppArmor",
        change={"namespaces_refused": "EPERM", "root": False, "switches": {APPARMOR: "1"}},
        says=("AppArmor", "with sudo", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ),
    Case(
        name="no namespaces, none allowed",
        change={"namespaces_refused": "ENOSPC", "root": False, "switches": {"user/max_user_namespaces": "0"}},
        says=("sudo sysctl -w user.max_user_namespaces=15000",),
    ),
    Case(
        name="no namespaces, Debian's old switch",
        change={"namespaces_refused": "EPERM", "root": False, "switches": {"kernel/unprivileged_userns_clone": "0"}},
        says=("sudo sysctl -w kernel.unprivileged_userns_clone=1",),
    ),
    Case(
        name="no namespaces, nothing switched off",
        change={"namespaces_refused": "EPERM", "root": False, "switches": {APPARMOR: "0"}},
        says=("(EPERM): run it with sudo",),
    ),
    Case(name="AppArmor restricts, but it works", change={"root": False, "switches": {APPARMOR: "1"}}),
    Case(name="no bridge", change={"bridge_refused": "Not supported"}, says=("(Not supported): modprobe -a bridge",)),
    Case(name="no filter", change={"filter_refused": "Error: no"}, says=("(Error: no)", "CONFIG_NF_TABLES_BRIDGE")),
    Case(name="no subordinate ids", change={"sub_ids": False, "root": False}, says=("usermod --add-subuids",)),
    Case(name="no subordinate ids, as root", change={"sub_ids": False}),
    Case(name="no subordinate ids, but an image", change={"sub_ids": False, "root": False, "building": False}),
    Case(
        name="no space for the image",
        change={"cache_free_bytes": host.IMAGE_BYTES - 1},
        says=(
            "the stack image needs 3.0 GB in /home/ada/.cache/harmonyflow",
            "or name another place by XDG_CACHE_HOME",
        ),
    ),
    Case(
        name="no space for the image, under sudo",
        change={"cache_free_bytes": 0, "cache_elsewhere": "make it a link to another place"},
        says=("3.0 GB in /home/ada/.cache/harmonyflow", "free some, or make it a link to another place"),
    ),
    Case(name="no space, but an image", change={"cache_free_bytes": 0, "building": False}),
    Case(
        name="no space for a report",
        change={"report_free_bytes": host.REPORT_BYTES - 1},
        says=("a report needs 0.5 GB in /srv/project/reports", "--reports"),
    ),
    Case(
        name="no report can be written",
        change={"reports_refused": "/srv/project is on a file system that is read-only"},
        says=("no report can be written in /srv/project/reports (/srv/project is on a", "--reports"),
    ),
    Case(
        name="no memory",
        change={"memory_free_bytes": host.MEMORY_BYTES - 1},
        says=("a run needs 2.0 GB of memory", "end what uses it"),
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_problem_is_one_line_with_its_remedy(case: Case):
    found = host.problems_of(replace(HEALTHY, **case.change))
    assert len(found) == (1 if case.says else 0)
    for problem in found:
        assert "\n" not in problem
        assert all(part in problem for part in case.says)


def test_all_problems_are_listed_in_the_order_of_mending():
    facts = replace(HEALTHY, missing_tools=frozenset({"ip", "nft"}), memory_free_bytes=0, report_free_bytes=0)
    assert [line.split()[0] for line in host.problems_of(facts)] == ["'ip'", "'nft'", "a", "a"]


def test_what_works_is_told_too_and_what_was_not_tried_is_not():
    well = {answer.name: answer.well for answer in host.answers_of(replace(HEALTHY, building=True))}
    assert list(well) == ["tools", "namespaces", "network", "image", "reports", "disk", "memory"]
    assert all(well.values())
    assert "has still to be built" in well["image"]
    assert {answer.name: answer.well for answer in host.answers_of(replace(HEALTHY, building=False))}[
        "image"
    ] == "is built"


@pytest.mark.parametrize(
    ("change", "bad", "untried"),
    [
        ({"missing_tools": frozenset({"unshare"})}, {"tools"}, {"namespaces", "network"}),
        ({"missing_tools": frozenset({"nft"})}, {"tools"}, {"network"}),
        ({"namespaces_refused": "EPERM"}, {"namespaces"}, {"network"}),
        ({"bridge_refused": "no", "filter_refused": "no"}, {"network"}, set()),
        ({"system": "Darwin"}, {"system"}, set()),
    ],
    ids=["no unshare", "no nft", "no namespaces", "no network", "no Linux"],
)
def test_each_answer_is_good_bad_or_untried(change: dict[str, Any], bad: set[str], untried: set[str]):
    answers = host.answers_of(replace(HEALTHY, **change))
    assert {answer.name for answer in answers if answer.problems} == bad
    assert {answer.name for answer in answers if not answer.problems and not answer.well} == untried


def test_the_first_problem_is_raised(monkeypatch, tmp_path):
    facts = replace(HEALTHY, missing_tools=frozenset({"ip"}), memory_free_bytes=0)
    monkeypatch.setattr(host, "facts_of_host", lambda *_args, **_kwargs: facts)
    with pytest.raises(HostError, match=r"^'ip' is not installed") as raised:
        host.require_host(tmp_path, building=True)
    assert raised.value.exit_code == 4


def test_a_healthy_machine_is_let_through(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "facts_of_host", lambda *_args, **_kwargs: HEALTHY)
    host.require_host(tmp_path, building=True)


def facts_with(
    monkeypatch, tmp_path, answers: dict[str, str], missing: frozenset[str] = frozenset()
) -> tuple[Facts, list[str]]:
    """Facts of a machine whose kernel answers as given, by the tool that asked; and which tools asked."""
    asked: list[str] = []

    def answer(argv, _text=""):
        tool = next(word for word in ("mount", "ip", "nft") if word in argv)
        asked.append(tool)
        return answers.get(tool, "")

    monkeypatch.setattr(host, "attempt", answer)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(shutil, "which", lambda tool, path: None if tool in missing else f"/usr/bin/{tool}")
    return host.facts_of_host(tmp_path, tmp_path, building=True), asked


def test_a_refusal_of_each_kind_is_kept(monkeypatch, tmp_path):
    facts, _ = facts_with(monkeypatch, tmp_path, {"ip": "no bridge", "nft": "no filter"})
    assert (facts.namespaces_refused, facts.bridge_refused, facts.filter_refused) == ("", "no bridge", "no filter")


def test_without_namespaces_nothing_more_is_tried(monkeypatch, tmp_path):
    facts, asked = facts_with(monkeypatch, tmp_path, {"mount": "EPERM"})
    assert (facts.namespaces_refused, asked) == ("EPERM", ["mount"])


def test_what_is_not_installed_is_not_blamed_on_the_kernel(monkeypatch, tmp_path):
    facts, asked = facts_with(monkeypatch, tmp_path, {"nft": "not found"}, missing=frozenset({"nft"}))
    assert (facts.missing_tools, facts.filter_refused, asked) == (frozenset({"nft"}), "", ["mount", "ip"])


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([sys.executable, "-c", "raise SystemExit(0)"], ""),
        ([sys.executable, "-c", "raise SystemExit(3)"], "exit 3"),
        ([sys.executable, "-c", "import sys; sys.exit('nft: refused\\n  ^')"], "nft: refused"),
        (["/no/such/tool"], "/no/such/tool: No such file or directory"),
    ],
    ids=["works", "silent", "first line that names the error", "not there"],
)
def test_an_attempt_says_why_it_failed(argv: list[str], expected: str):
    assert host.attempt(argv) == expected


def test_an_attempt_has_a_deadline(monkeypatch):
    monkeypatch.setattr(host, "PROBE_TIMEOUT_S", 0.05)
    assert host.attempt(["sleep", "5"]) == "no answer within 0.05 s"


def test_as_a_user_a_user_namespace_comes_first():
    assert host.inside(root=False)[:3] == ["unshare", "--user", "--map-root-user"]
    assert "--user" not in host.inside(root=True)


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    there = os.statvfs(tmp_path)
    assert host.free_bytes(tmp_path / "not" / "yet") == pytest.approx(there.f_bavail * there.f_frsize, rel=0.2)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert host.refused_to_write(tmp_path / "not" / "yet") == ""
    assert host.refused_to_write(tmp_path / "file") == f"{tmp_path}/file is no folder"
    assert host.refused_to_write(tmp_path / "file" / "below") == f"{tmp_path}/file is no folder"
    assert host.refused_to_write(tmp_path / ("y" * 300)) == "File name too long"
    assert host.free_bytes(tmp_path / ("y" * 300)) > 0
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert host.refused_to_write(tmp_path / "circle") == "Too many levels of symbolic links"
    monkeypatch.setattr(os, "access", lambda *_args: False)
    assert host.refused_to_write(tmp_path / "not" / "yet") == f"{tmp_path} is not this user's to write in"


def test_each_build_tool_is_asked_for_only_where_it_is_used():
    assert "mmdebstrap" not in host.tools_needed(root=True, building=False)
    assert "newuidmap" not in host.tools_needed(root=True, building=True)
    assert {"mmdebstrap", "newuidmap", "nft"} <= set(host.tools_needed(root=False, building=True))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/usr/sbin:/sbin"),
        ("/usr/bin:/bin", "/usr/bin:/bin:/usr/sbin:/sbin"),
        ("/usr/sbin:/usr/bin", "/usr/sbin:/usr/bin:/sbin"),
        ("/sbin:/usr/sbin", "/sbin:/usr/sbin"),
    ],
    ids=["none", "a user's", "half", "root's"],
)
def test_administrators_tools_are_found_by_an_ordinary_user(path: str, expected: str):
    assert host.system_path(path) == expected
