"""What a run was made with: the harness's revision and content, the versions of its tools, the machine."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from resilience.machine import machine_facts
from resilience.report.document import About
from resilience.spec.fingerprint import Fingerprint, fingerprint
from resilience.spec.scenario import Scenario

_TOOLS = ("harmonyflow-resilience", "chaostoolkit", "chaostoolkit-lib", "locust", "redis", "prometheus-api-client")

_SHOWN = {"redis": "redis-py"}  # the server of that name is another thing
_CONTENT = ("src", "loadgen", "services", "stacks", "requirements.lock")  # what of the project runs in a run


def about(root: Path, rerun: str, fingerprint: Fingerprint | None) -> About:
    """Everything that is known before the stack is up; the servers' own versions are in ``servers.json``."""
    return About(
        revision=_revision(root),
        versions=_versions(),
        host=machine_facts(),
        rerun=rerun,
        fingerprint=fingerprint,
    )


def fingerprint_here(control: Scenario, root: Path, servers: str) -> Fingerprint:
    """The fingerprint that this scenario has as a control, by this harness on this machine, as they are now."""
    content = hashlib.sha256(f"{content_digest(root)} {sorted(_versions().items())}".encode()).hexdigest()[:16]
    return fingerprint(control, harness=content, servers=servers, host=machine_facts())


def content_digest(root: Path) -> str:
    """Hex digits that change with any file that runs in a run, committed or not.

    Two checkouts of the same content have the same, whatever their revisions are called.
    """
    whole = hashlib.sha256()
    for path in sorted(_content(root)):
        whole.update(f"{path.relative_to(root)}\0".encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _content(root: Path) -> Iterator[Path]:
    for name in _CONTENT:
        if (root / name).is_file():
            yield root / name
        for folder, folders, files in os.walk(root / name):
            folders[:] = [name for name in folders if name != "__pycache__" and not name.endswith(".egg-info")]
            yield from (Path(folder, file) for file in files if not file.startswith("."))  # no editor's swap files


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for name in _TOOLS:
        try:
            versions[_SHOWN.get(name, name)] = version(name)
        except PackageNotFoundError:
            versions[_SHOWN.get(name, name)] = "not installed"
    return versions


def _revision(root: Path) -> str:
    # under sudo the checkout belongs to somebody else, which git refuses unless it is told that this is meant
    git = ["git", "--no-optional-locks", "-c", f"safe.directory={root}", "-C", str(root)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
