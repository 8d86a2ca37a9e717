"""What a run was made with: the harness's revision, the versions of its tools, the machine."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from resilience.machine import machine_facts
from resilience.report.document import About

_TOOLS = ("harmonyflow-resilience", "chaostoolkit", "chaostoolkit-lib", "locust", "redis", "prometheus-api-client")

_SHOWN = {"redis": "redis-py"}  # the server of that name is another thing


def about(root: Path, rerun: str) -> About:
    """Everything that is known before the stack is up; the servers' own versions are in ``servers.json``."""
    return About(revision=_revision(root), versions=_versions(), host=machine_facts(), rerun=rerun)


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
