"""What RabbitMQ's members and its clients are given in a cluster, rendered from a stack file."""

import secrets
from collections.abc import Iterator

import msgspec

from resilience.backend.kubernetes.manifests import NAMESPACES, Object, Secret, config_map, passwords, secret_map
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.rabbitmq_settings import ENABLED_PLUGINS, SALT_BYTES, definitions_json, rabbitmq_conf
from resilience.spec.stack import Member, Stack

PASSWORD, COOKIE = "rabbitmq-password", "rabbitmq-cookie"
_NAMESPACE = NAMESPACES["rabbitmq"]
_DEFINITIONS = "/config/definitions.json"
_FOUND_WITHIN_S = 300  # each node pulls the image for itself


def rabbitmq_settings(stack: Stack, secret: Secret) -> Iterator[Object]:
    """The same files for all members: who is first to start makes user, vhost and policies."""
    definitions = definitions_json(stack, secret(PASSWORD), secrets.token_bytes(SALT_BYTES))
    files = {
        "rabbitmq.conf": rabbitmq_conf(stack, _short, _DEFINITIONS, _FOUND_WITHIN_S).encode(),
        "definitions.json": definitions,
        "enabled_plugins": ENABLED_PLUGINS.encode(),
        "erlang.cookie": secret(COOKIE).encode(),
        "start.sh": (PROJECT_ROOT / "stacks" / "rabbitmq" / "start.sh").read_bytes(),
    }
    yield config_map(_NAMESPACE, "stack", {"stack.json": msgspec.json.encode(stack).decode()})
    yield secret_map(_NAMESPACE, "rabbitmq-config", files)
    yield from passwords(PASSWORD, secret(PASSWORD), (_NAMESPACE, NAMESPACES["rabbitmq-client"]))


def _short(member: Member) -> str:
    """Members look names up in their own Service, so that an Erlang node is called as on any backend."""
    return member.name
