"""A user's kubeconfig, and of it the one context that their file of clusters names.

What was looked at is what is used: the context, its cluster and its user are copied into a kubeconfig of the harness's
own, with the certificate in it, and every call, also that of a daemon which outlives the harness, names that copy. What
becomes of the user's file meanwhile changes nothing; its current context is never read.
"""

import base64
import hashlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from resilience.errors import SpecError
from resilience.spec.cluster import NamedCluster, address_of, fingerprint
from resilience.spec.convert import did_you_mean, show, show_name
from resilience.spec.document import read_document

BYTES_MAX = 4 * 1024 * 1024  # tools add a context with its certificates for each cluster
_BEGIN = "-----BEGIN CERTIFICATE-----"
_FILES = ("client-certificate", "client-key", "tokenFile")  # of a user: beside the kubeconfig, if not absolute

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What a context leads to, as it was looked at."""

    document: Json  # a kubeconfig with that context alone
    server: str
    certificates: bytes  # that the server is checked by; b"" for the machine's own

    @property
    def mark(self) -> str:
        """Some letters for what it leads to: another server, or another certificate, has others."""
        return hashlib.sha256(self.server.encode() + b"\0" + self.certificates).hexdigest()[:8]

    def save(self, path: Path) -> None:
        """Writes it, for its owner alone; whoever reads meanwhile has the old one or the new one whole."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        beside.touch(mode=0o600)
        beside.write_bytes(msgspec.json.encode(self.document))  # JSON is YAML
        beside.replace(path)


def pinned(path: Path, cluster: NamedCluster, where: str) -> Pinned:
    """What the cluster's context leads to, if that is what its entry says. ``where`` is that entry in messages.

    Raises `SpecError`.
    """
    label = show_name(str(path))
    whole = read_document(path, label, BYTES_MAX)
    if not isinstance(whole, dict):
        raise SpecError(f"{label}: the file: expected a kubeconfig (got {show(whole)})")
    context = _entry(whole, "context", cluster.context, label)
    leads_to = _entry(whole, "cluster", _word(context, "cluster", label), label)
    user = _entry(whole, "user", _word(context, "user", label), label) if context.get("user") else {}
    server = _word(leads_to, "server", label)
    told = f"{where}: context {show_name(cluster.context)} of {label}"
    if leads_to.get("insecure-skip-tls-verify"):
        raise SpecError(f"{told} does not check who its server is (insecure-skip-tls-verify): it cannot be used")
    if address_of(server) is None or address_of(server) != address_of(cluster.server):
        raise SpecError(f"{told} leads to {show(server)}, expected {show(cluster.server)}: mend whichever is wrong")
    certificates = _certificates(leads_to, path, label)
    has = _sha256(certificates, label)
    if cluster.ca_sha256 and has != fingerprint(cluster.ca_sha256):
        wanted = fingerprint(cluster.ca_sha256)
        raise SpecError(f"{told} has another certificate: {has}, expected {wanted}: mend whichever is wrong")
    return Pinned(
        document=_document(cluster.context, _with_certificates(leads_to, certificates), _absolute(user, path.parent)),
        server=server,
        certificates=certificates,
    )


def _entry(whole: Mapping[str, Any], kind: str, name: str, label: str) -> Json:
    """What stands under a name in one of a kubeconfig's lists."""
    listed = whole.get(f"{kind}s") or []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise SpecError(f"{label}: {kind}s: expected a list of names with what stands under each")
    found = [one.get(kind) for one in listed if one.get("name") == name]
    if not found:
        known = [one["name"] for one in listed if isinstance(one.get("name"), str)]
        raise SpecError(f"{label}: it has no {kind} {show(name)}{did_you_mean(name, known)}")
    if len(found) > 1:
        raise SpecError(f"{label}: {kind} {show(name)} stands twice")
    if not isinstance(found[0], dict):
        raise SpecError(f"{label}: {kind} {show(name)}: expected a mapping (got {show(found[0])})")
    return found[0]


def _word(entry: Json, field: str, label: str) -> str:
    word = entry.get(field)
    if not isinstance(word, str) or not word:
        raise SpecError(f"{label}: {field}: expected text (got {show(word)})")
    return word


def _certificates(leads_to: Json, path: Path, label: str) -> bytes:
    """The certificates that the server is checked by, as text; b"" for the machine's own."""
    data, file = leads_to.get("certificate-authority-data"), leads_to.get("certificate-authority")
    try:
        if data:
            return base64.b64decode(str(data), validate=True)
        return (path.parent / str(file)).read_bytes() if file else b""
    except (OSError, ValueError) as error:  # a binascii.Error is a ValueError
        why = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"{label}: certificate-authority: cannot be read ({why})") from error


def _sha256(certificates: bytes, label: str) -> str:
    """Of the one certificate, or that there are none or several: any of those would do for the server."""
    try:
        text = certificates.decode("ascii").strip()
        if (count := text.count(_BEGIN)) != 1:
            return f"{count} of its own"
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[text.index(_BEGIN) :])).hexdigest()
    except ValueError as error:
        raise SpecError(f"{label}: certificate-authority: expected a certificate in PEM ({error})") from error


def _with_certificates(leads_to: Json, certificates: bytes) -> Json:
    kept = {key: value for key, value in leads_to.items() if key != "certificate-authority"}
    return {**kept, "certificate-authority-data": base64.b64encode(certificates).decode()} if certificates else kept


def _absolute(user: Json, folder: Path) -> Json:
    """A user whose files and program are found from anywhere."""
    found = {key: str(folder / str(value)) if key in _FILES and value else value for key, value in user.items()}
    program = found.get("exec")
    if isinstance(program, dict) and "/" in str(program.get("command", "")):
        found["exec"] = {**program, "command": str(folder / program["command"])}
    return found


def _document(context: str, cluster: Json, user: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "named", "cluster": cluster}],
        "users": [{"name": "named", "user": user}],
        "contexts": [{"name": context, "context": {"cluster": "named", "user": "named"}}],
        "current-context": context,
    }
