"""The clusters that a user's file names: which may be used by their names, and what they are known by.

::

    staging:
      context: staging-admin                  # of the kubeconfig; never its current one
      server: https://10.20.0.1:6443          # what that context has to lead to
      ca_sha256: 1f0c…                        # of the certificate that its server is checked by
      kubeconfig: ~/.kube/config
      repository: registry.example/harmonyflow/resilience
      overlay: plain

A context is a name for whatever somebody has put under it, and is changed by many tools. So what it leads to stands
here beside it, and another address, or another certificate, is refused.
"""

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from resilience.errors import SpecError
from resilience.spec.convert import did_you_mean, record_from, refuse, show
from resilience.spec.document import read_document
from resilience.spec.record import Record

KUBECONFIG = "~/.kube/config"  # what people call theirs; an environment's is not taken
OVERLAY = "plain"
_CLUSTERS_MAX = 50
_NAME = r"^[a-z][a-z0-9-]{0,40}\Z"
_HTTPS_PORT = 443

Line = Annotated[str, Meta(min_length=1, max_length=500)]


class NamedCluster(Record, frozen=True, kw_only=True):
    """One cluster of the file."""

    context: Line
    server: Line
    kubeconfig: Line = KUBECONFIG
    ca_sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}\Z")] = ""  # "": whichever it has
    repository: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._:/-]{0,200}\Z")] = (
        ""  # of the project's image; "": none
    )
    overlay: Annotated[str, Meta(pattern=_NAME)] = OVERLAY  # a folder of stacks/kubernetes


def read_clusters(path: Path, label: str) -> dict[str, NamedCluster]:
    """The clusters of a file, by name. Raises `SpecError`."""
    value = read_document(path, label)
    if not isinstance(value, dict):
        raise refuse(label, "", "expected clusters by their names", value)
    if len(value) > _CLUSTERS_MAX:
        raise refuse(label, "", f"expected at most {_CLUSTERS_MAX} clusters (got {len(value)})")
    return {name: _cluster(name, entry, label) for name, entry in value.items()}


def cluster_named(clusters: dict[str, NamedCluster], name: str, label: str) -> NamedCluster:
    """The one of that name. Raises `SpecError`."""
    if name not in clusters:
        raise SpecError(f"{label}: it names no cluster {show(name)}{did_you_mean(name, clusters)}")
    return clusters[name]


def _cluster(name: str, entry: object, label: str) -> NamedCluster:
    if not re.match(_NAME, name):  # it becomes a file's, and a word of --stack
        raise refuse(label, name, "expected a name of lower-case letters, digits and dashes, at most 41")
    found = record_from(entry, NamedCluster, label, f".{name}")
    if address_of(found.server) is None:
        raise refuse(
            label, f"{name}.server", "expected https:// with a host, and a port if it is not 443", found.server
        )
    return found


def address_of(server: str) -> tuple[str, int, str] | None:
    """Host, port and path of an API server's address, so that two ways to write it are one; None for no such address.

    Only https: what is not encrypted, anybody on the way could answer.
    """
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is none, a bracket too few
        return None
    plain = parts.scheme == "https" and host and "@" not in parts.netloc and not parts.query and not parts.fragment
    return (host, _HTTPS_PORT if port is None else port, parts.path.rstrip("/")) if plain and host else None


def fingerprint(digest: str) -> str:
    """A SHA-256 as programs write it: small letters, no colons."""
    return digest.replace(":", "").lower()
