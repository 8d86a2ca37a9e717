"""The transport of the Kubernetes API, against a server with TLS on loopback that wants a client's certificate."""

import base64
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from kubernetes.config import kube_config

from resilience.backend.kubernetes.api import Api, ApiError

CERTIFICATE = Path(__file__).with_name("certificate.pem")
CONTEXT = "kind-harmonyflow"


class Answer(BaseHTTPRequestHandler):
    """Closes each connection after its answer, so that every question makes a new one."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"kind": "Pod"}')

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(CERTIFICATE))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(CERTIFICATE)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as answering:
        answering.socket = context.wrap_socket(answering.socket, server_side=True)
        threading.Thread(target=answering.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{answering.server_port}"
        answering.shutdown()


def kubeconfig(folder: Path, url: str, *, with_key: bool = True) -> Path:
    pem = CERTIFICATE.read_text()
    parts = [f"-----BEGIN {part}" for part in pem.split("-----BEGIN ")[1:]]
    key, certificate = (base64.b64encode(part.encode()).decode() for part in parts)
    user = f"{{client-certificate-data: {certificate}, client-key-data: {key}}}" if with_key else "{}"
    file = folder / "kubeconfig"
    file.write_text(
        f"clusters: [{{name: c, cluster: {{server: '{url}', certificate-authority-data: {certificate}}}}}]\n"
        f"users: [{{name: u, user: {user}}}]\n"
        f"contexts: [{{name: {CONTEXT}, context: {{cluster: c, user: u}}}}]\ncurrent-context: ''\n"
    )
    return file


def test_certificates_outlive_the_process_that_loaded_them(server: str, tmp_path: Path) -> None:
    """An injection's daemon is forked off a process that has asked, and ends before it."""
    api = Api.of_context(kubeconfig(tmp_path, server), CONTEXT)
    assert api.get("/x") == {"kind": "Pod"}
    kube_config._cleanup_temp_files()  # type: ignore[no-untyped-call]  # what the client does as that process ends
    assert api.get("/x") == {"kind": "Pod"}


def test_a_client_without_its_key_is_refused(server: str, tmp_path: Path) -> None:
    api = Api.of_context(kubeconfig(tmp_path, server, with_key=False), CONTEXT)
    api._patience_s = 0.0
    with pytest.raises(ApiError, match="does not answer"):
        api.get("/x")


def test_a_server_that_another_has_signed_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    file = kubeconfig(tmp_path, server)
    file.write_text(file.read_text().replace("certificate-authority-data", "not-read"))
    api = Api.of_context(file, CONTEXT)
    api._patience_s = 0.0
    with pytest.raises(ApiError, match="does not answer"):
        api.get("/x")
