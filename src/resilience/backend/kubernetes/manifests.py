"""What is applied to a cluster: the overlay of its backend, and beside it what is rendered from a stack file.

::

    <folder>/kustomization.yaml   resources: the overlay, tiers, settings.yaml; images that take the place of theirs
    <folder>/settings.yaml        ConfigMaps and Secrets: servers' settings, passwords

The folder is for `kubectl apply -k`. It holds secrets, so only its owner may read it.
"""

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.settings import (
    DRAINED,
    exporter_passwords,
    own_settings,
    prometheus_yml,
    redis_conf,
    service_json,
)
from resilience.errors import SpecError
from resilience.spec.stack import GENERATORS, Member, Stack

PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
HARNESS = "harmonyflow.dev/harness"  # a namespace without this label is never touched
NODE = "harmonyflow.dev/node"  # a node's name in stack files
MEMBER = "harmonyflow.dev/member"  # on pods that a controller gives random names
PLATFORM_NODES = "harmonyflow.dev/role=platform"  # those that members stand on, and agents
PASSWORD_SECRET, PASSWORD_KEY = "redis-password", "password"  # a password is the one key of the Secret of its name
SERVICE_SECRETS = "/secret"  # where a service finds its passwords, each as the file of its name
NAMESPACES: Mapping[str, str] = {
    "redis": "redis",
    "rabbitmq": "rabbitmq",
    "session": "harmonyflow",
    "collaboration": "harmonyflow",
    "content": "harmonyflow",
    "personalization": "harmonyflow",
    "edge": "harmonyflow",
    "prometheus": "monitoring",
    "redis-exporter": "monitoring",
    "node-exporter": "monitoring",
    "witness": "monitoring",
    "agent": "resilience",
    "postgresql": "postgresql",
    "pgbouncer": "postgresql",
    "wal-archive": "postgresql",
    "postgres-exporter": "monitoring",
    "loadgen": "monitoring",
    "direct-client": "monitoring",
    "postgresql-client": "monitoring",
    "rabbitmq-client": "monitoring",
}
# the headless Service that gives a component's pods their names
SERVICES: Mapping[str, str] = {"redis": "redis-cluster", **dict.fromkeys(GENERATORS, "load")}

Object = dict[str, Any]  # one Kubernetes object
Secret = Callable[[str], str]  # a secret of the stack by its name, the same each time that it is asked for


def host(member: Member) -> str:
    """The name that a member is reached by anywhere in the cluster."""
    service = SERVICES.get(member.component, member.component)
    return f"{member.name}.{service}.{NAMESPACES[member.component]}.svc.cluster.local"


def settings(stack: Stack, secret: Secret) -> Iterator[Object]:
    """The ConfigMaps and Secrets of what every stack has."""
    password = secret(PASSWORD_SECRET)
    yield config_map("redis", "stack", {"stack.json": msgspec.json.encode(stack).decode()})
    yield from _services(stack, secret)
    yield config_map("monitoring", "prometheus", {"prometheus.yml": prometheus_yml(stack, host)})
    yield secret_map("redis", "redis-config", {"redis.conf": redis_conf(stack, password).encode()})
    yield secret_map("monitoring", "redis-exporter", {"passwords.json": exporter_passwords(stack, host, password)})
    yield from passwords(PASSWORD_SECRET, password, ("redis", "monitoring"))


def _services(stack: Stack, secret: Secret) -> Iterator[Object]:
    """What services and edges are told, and for each service a Secret with the passwords of the stores that it asks."""
    configs: dict[str, str] = {}
    for component in (*DRAINED, "edge"):
        told, given = _told(stack, component, secret)
        configs |= told
        if told and component != "edge":  # which asks no store
            yield secret_map(NAMESPACES[component], component, given)
    yield config_map(NAMESPACES["edge"], "services", configs)


def _told(stack: Stack, component: str, secret: Secret) -> tuple[dict[str, str], dict[str, bytes]]:
    """The configurations of a component's members, and the passwords that they name, by their files."""
    given: dict[str, bytes] = {}

    def file(name: str) -> str:
        given[name] = secret(name).encode()
        return f"{SERVICE_SECRETS}/{name}"

    configs = {
        f"{member.name}.json": service_json(
            stack, member, host, file(PASSWORD_SECRET), own_settings(stack, member, host, file)
        ).decode()
        for member in stack.of(component)
    }
    return configs, given


def passwords(name: str, password: str, namespaces: Iterable[str]) -> Iterator[Object]:
    """A password where it is needed."""
    for namespace in namespaces:
        yield secret_map(namespace, name, {PASSWORD_KEY: password.encode()})


def write(folder: Path, resources: Iterable[Path], rendered: Iterable[Object], images: Mapping[str, str]) -> None:
    """Writes the folder of these resources (folders themselves) and what was rendered beside them; ``images``: what
    takes the place of an image, by its official name.

    Raises `SpecError` for an image that cannot be one.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [*(os.path.relpath(path, folder) for path in resources), "settings.yaml"],
        "images": [image_override(name, image) for name, image in images.items()],
    }
    (folder / "kustomization.yaml").write_bytes(msgspec.json.encode(kustomization))  # JSON is YAML
    secret = folder / "settings.yaml"
    secret.touch(mode=0o600)
    secret.write_bytes(b"\n---\n".join(msgspec.json.encode(item) for item in rendered))


def image_override(name: str, image: str) -> dict[str, str]:
    """An entry of kustomize's ``images``, from ``repository:tag`` or ``repository@sha256:…``. Raises `SpecError`."""
    repository, at, digest = image.partition("@")
    if at and repository and digest.startswith("sha256:"):
        return {"name": name, "newName": repository, "digest": digest}
    repository, _, tag = image.rpartition(":")
    if at or not repository or not tag or "/" in tag or any(letter.isspace() for letter in image):
        raise SpecError(f"image of {name}: expected repository:tag or repository@sha256:… (got {image[:80]!r})")
    return {"name": name, "newName": repository, "newTag": tag}


def overlay_folder(overlay: str) -> Path:
    """The folder of an overlay's manifests."""
    return PROJECT_ROOT / "stacks" / "kubernetes" / overlay


def config_map(namespace: str, name: str, data: Mapping[str, str]) -> Object:
    """A ConfigMap of the stack's."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(namespace, name), "data": dict(data)}


def secret_map(namespace: str, name: str, data: Mapping[str, bytes]) -> Object:
    """A Secret of the stack's."""
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(namespace, name), "data": encoded}


def _metadata(namespace: str, name: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": {PART_OF: "harmonyflow"}}
