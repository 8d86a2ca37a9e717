"""The control beside a run: what ``control.json`` holds, and what of the run itself it has to share.

*Identity* is what a run was made with, as far as a control speaks for it: it is read from a run's ``spec.json`` and
``servers.json``, of a control just as of the run that it stands beside.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from resilience.history.lines import BROKEN
from resilience.spec.fingerprint import Fingerprint

CONTROL_FILE = "control.json"
_SPEC_FILE, _SERVERS_FILE = "spec.json", "servers.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was made with, when it began, and which servers answered in it."""

    fingerprint: Fingerprint
    started_utc: str  # ISO 8601
    versions: dict[str, tuple[str, ...]]  # by component, as its members said themselves


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A judged run without a fault, copied into the directory of a run that rests on it."""

    schema: Literal[1]
    run: str  # its directory, below the reports'
    identity: Identity
    verdict: Literal["pass", "fail", "inconclusive"]
    headline: str
    findings: tuple[dict[str, Any], ...]
    measures: dict[str, float]

    def age_s(self, at_utc: str) -> float:
        """How long before an instant (ISO 8601) the control began. Raises `ValueError` if that is none."""
        return (_instant(at_utc) - _instant(self.identity.started_utc)).total_seconds()


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text}: no time zone")
    return instant


class _Spec(msgspec.Struct, frozen=True, kw_only=True):
    fingerprint: Fingerprint
    started_utc: str


class _Server(msgspec.Struct, frozen=True, kw_only=True):
    component: str = ""
    version: str = ""


class _Servers(msgspec.Struct, frozen=True, kw_only=True):
    members: dict[str, _Server]


def read_identity(run_dir: Path) -> Identity | None:
    """What a run was made with; None where that is not on record, or cannot be read."""
    try:
        spec = msgspec.json.decode((run_dir / _SPEC_FILE).read_bytes(), type=_Spec)
        servers = msgspec.json.decode((run_dir / _SERVERS_FILE).read_bytes(), type=_Servers)
    except (OSError, *BROKEN):
        return None
    versions: dict[str, set[str]] = {}
    for server in servers.members.values():
        if server.version:
            versions.setdefault(server.component, set()).add(server.version)
    return Identity(
        fingerprint=spec.fingerprint,
        started_utc=spec.started_utc,
        versions={component: tuple(sorted(found)) for component, found in sorted(versions.items())},
    )


def read_control(run_dir: Path, problems: list[str]) -> Control | None:
    """The control that was copied into a run's directory, None if there is none.

    One that cannot be read is none, too, and is named in ``problems``. Raises `OSError` if it exists and the disk
    refuses.
    """
    path = run_dir / CONTROL_FILE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Control)
    except BROKEN as error:
        problems.append(f"{CONTROL_FILE}:1: {error}")
        return None
