"""A copy of the shipped data files to spoil, the command line on it, and a witness of everything that is begun."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from resilience import cli, cluster_cli, standing_cli, supervise
from resilience.errors import HostError
from resilience.spec.read import list_scenarios, read_scenario

ROOT = Path(__file__).resolve().parents[2]
DATA = ("scenarios", "experiments", "stacks")
WOULD_START = "it would start now"
_BEGINNINGS = frozenset({
    "subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.mkdir",
    "os.remove", "os.rename", "shutil.rmtree", "socket.bind", "socket.connect", "pty.spawn",
})  # fmt: skip


@dataclass
class Witness:
    """What a command began while the witness looked: processes, connections, files that were written."""

    looking: bool = False
    seen: list[str] = field(default_factory=list)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.looking and (event in _BEGINNINGS or (event == "open" and _writes(*arguments))):
            self.seen.append(f"{event} {arguments!r}")


def _writes(_path: Any, mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if mode is None else not set(mode) <= set("rbtU")


_WITNESS = Witness()
sys.addaudithook(_WITNESS.hear)  # there is no way to take it away again; it hears nothing while it does not look


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str
    began: tuple[str, ...]


Command = Callable[..., Said]


@pytest.fixture(scope="session")
def users() -> dict[str, str]:
    """The shipped data files, each with a scenario that it is read for; the suites' is none."""
    found: dict[str, str] = {"scenarios/suites.yaml": ""}
    for name in list_scenarios(ROOT):
        scenario = read_scenario(ROOT, name)
        stack = f"stacks/local/{scenario.stack.name}.yaml"
        experiments = [scenario.experiment.file] if scenario.experiment else []
        for file in (scenario.file, stack, *experiments, *(slo.file for slo in scenario.slos)):
            found.setdefault(file, name)
    return found


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, tuple[int, ...]]]:
    """One copy of the data files for all tests of a process, and what each of them is as long as nobody spoils it."""
    root = tmp_path_factory.mktemp("copied") / "project"
    for folder in DATA:
        shutil.copytree(ROOT / folder, root / folder)
    return root, _files(root)


@pytest.fixture
def project(copied: tuple[Path, dict[Path, tuple[int, ...]]]) -> Iterator[Path]:
    """The copy; what a test did to it is undone: hundreds of tests spoil one file of many each."""
    root, whole = copied
    yield root
    now = _files(root)
    for path in now.keys() - whole.keys():
        path.unlink()
    for path in [path for path, seen in whole.items() if now.get(path) != seen]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copy2(ROOT / path.relative_to(root), path)
        whole[path] = _facts(path)


def _files(root: Path) -> dict[Path, tuple[int, ...]]:
    return {path: _facts(path) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def _facts(path: Path) -> tuple[int, ...]:
    seen = path.lstat()
    return (seen.st_ino, seen.st_mode, seen.st_size, seen.st_mtime_ns)


@pytest.fixture
def command(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """`resilience` on the copy; what begins to look for what it needs ends with a line that says so, exit code 4."""

    def image_root(*, rebuild: bool = False) -> Path:
        raise HostError(WOULD_START)

    monkeypatch.setattr(cli, "ROOT", project)
    monkeypatch.setattr(standing_cli, "PROJECT_ROOT", project)
    monkeypatch.setattr(supervise, "image_root", image_root)
    monkeypatch.setattr(cluster_cli, "preflight", lambda *_: image_root())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str) -> Said:
        _WITNESS.seen.clear()
        _WITNESS.looking = True
        try:
            code = cli.main(arguments)
        finally:
            _WITNESS.looking = False
        said = capsys.readouterr()
        return Said(code=code, out=said.out, err=said.err, began=tuple(_WITNESS.seen))

    yield run
    _WITNESS.looking = False
