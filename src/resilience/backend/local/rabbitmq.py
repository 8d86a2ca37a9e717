"""What a RabbitMQ member runs on this backend, and what its command-line tools need to find it."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from resilience.backend.local.member import Pod
from resilience.backend.local.secret import write_secret
from resilience.backend.rabbitmq_settings import (
    ENABLED_PLUGINS,
    NEEDED_PLUGINS,
    SALT_BYTES,
    definitions_json,
    rabbitmq_conf,
)
from resilience.spec.stack import Member, Stack

PASSWORD, COOKIE = "rabbitmq-password", "rabbitmq-cookie"
_HOME = "/config"  # holds the cookie, which the server and its tools look for in their home
_BIN = "/usr/lib/rabbitmq/bin"  # Debian's wrappers elsewhere insist on a user of their own
_SETTINGS: Mapping[str, str] = {
    "HOME": _HOME,
    "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the server, instead of waiting for it
    "ERL_CRASH_DUMP_SECONDS": "0",  # no dump: the log says why
    "RABBITMQ_CONFIG_FILE": "/config/rabbitmq.conf",
    "RABBITMQ_ENABLED_PLUGINS_FILE": "/config/enabled_plugins",
    "RABBITMQ_PLUGINS_DIR": "/config/plugins",
    "RABBITMQ_MNESIA_BASE": "/data",
    "RABBITMQ_LOG_BASE": "/data/log",
    # the cores are shared with all other members: nothing waits by spinning
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
}


def rabbitmq(pod: Pod, stack: Stack, secret: Callable[[str], str]) -> tuple[str, ...]:
    """Writes a member's configuration and returns its command; ``secret`` tells the stack's secrets by their names."""
    config = pod.config
    definitions = definitions_json(stack, secret(PASSWORD), secrets.token_bytes(SALT_BYTES))
    write_secret(config / "definitions.json", definitions.decode())
    write_secret(config / ".erlang.cookie", secret(COOKIE))
    (config / ".erlang.cookie").chmod(0o400)  # as the server demands
    (config / "rabbitmq.conf").write_text(rabbitmq_conf(stack, _by_name, "/config/definitions.json"))
    (config / "enabled_plugins").write_text(ENABLED_PLUGINS)
    _link_plugins(pod.ground.image, config / "plugins")
    return ("/usr/bin/env", *(f"{name}={value}" for name, value in _SETTINGS.items()), f"{_BIN}/rabbitmq-server")


def tool_environment() -> dict[str, str]:
    """With it ``rabbitmqctl`` and its like find the cookie, and are found themselves."""
    return {"HOME": _HOME, "PATH": f"{_BIN}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"}


def _by_name(member: Member) -> str:
    """Every member has the same hosts file."""
    return member.name


def _link_plugins(image: Path, folder: Path) -> None:
    """A folder with only those plugins that are used: a start reads all there are, which takes a third of it."""
    folder.mkdir()
    for plugin in _plugins(image):
        (folder / plugin.name).symlink_to("/" / plugin.relative_to(image))


def _plugins(image: Path) -> Iterator[Path]:
    """The libraries among the plugins, and those plugins that are needed."""
    for path in image.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/*-*"):
        name = path.name.rpartition("-")[0]
        if not name.startswith("rabbitmq_") or name in NEEDED_PLUGINS:
            yield path
