"""A user's home with a file of clusters and a kubeconfig, all of it right; tests spoil one field of it."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SERVER = "https://10.20.0.1:6443"
DER = b"a certificate, as far as anybody here looks into it"
PEM = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(DER).decode()}\n-----END CERTIFICATE-----\n"
SHA256 = hashlib.sha256(DER).hexdigest()

Json = dict[str, Any]


def _entry() -> Json:
    return {"context": "staging-admin", "server": SERVER, "ca_sha256": SHA256}


def _kubeconfig() -> Json:
    data = base64.b64encode(PEM.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "production",
        "contexts": [
            {"name": "production", "context": {"cluster": "production", "user": "ada"}},
            {"name": "staging-admin", "context": {"cluster": "staging", "user": "ada", "namespace": "default"}},
        ],
        "clusters": [
            {"name": "production", "cluster": {"server": "https://10.10.0.1:6443"}},
            {"name": "staging", "cluster": {"server": SERVER, "certificate-authority-data": data}},
        ],
        "users": [{"name": "ada", "user": {"token": "s3cret"}}],
    }


@dataclass
class Home:
    """The files of one user; they are written when a command is about to read them."""

    folder: Path
    entry: Json = field(default_factory=_entry)
    kubeconfig: Json = field(default_factory=_kubeconfig)

    @property
    def clusters(self) -> Path:
        return self.folder / ".config" / "harmonyflow" / "clusters.yaml"

    @property
    def config(self) -> Path:
        return self.folder / ".kube" / "config"

    @property
    def staging(self) -> Json:
        """The cluster that the context leads to."""
        found: Json = self.kubeconfig["clusters"][1]["cluster"]
        return found

    @property
    def user(self) -> Json:
        found: Json = self.kubeconfig["users"][0]["user"]
        return found

    def write(self) -> None:
        for path, value in ((self.clusters, {"staging": self.entry}), (self.config, self.kubeconfig)):
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_text(json.dumps(value))  # JSON is YAML
            path.chmod(0o600)


def home_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A user's home, which is that of this process from now on."""
    for name in ("XDG_CONFIG_HOME", "SUDO_UID", "SUDO_GID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    found = Home(folder)
    found.write()
    return found
