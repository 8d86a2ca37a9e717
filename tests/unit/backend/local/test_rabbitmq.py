"""What a RabbitMQ member finds in its folder: secrets for nobody else, and only the plugins that are used."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.rabbitmq import rabbitmq, tool_environment
from resilience.spec.read import read_stack

STACK = read_stack(PROJECT_ROOT, "stacks/local/rabbitmq.yaml")
PLUGINS = "usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5/plugins"


@pytest.fixture
def pod(tmp_path: Path) -> Any:
    image = tmp_path / "image"
    for name in (
        "rabbit-4.0.5",
        "ra-2.14.0",
        "rabbitmq_management-4.0.5",
        "rabbitmq_prometheus-4.0.5",
        "rabbitmq_mqtt-4.0.5",
    ):
        (image / PLUGINS / name).mkdir(parents=True)
    (image / PLUGINS / "README").touch()
    (tmp_path / "config").mkdir()
    return SimpleNamespace(
        member=STACK.member("rabbitmq-1"), config=tmp_path / "config", ground=SimpleNamespace(image=image)
    )


def test_secrets_are_its_owners_alone_and_on_no_command_line(pod: Any) -> None:
    command = rabbitmq(pod, STACK, lambda name: f"the {name}")
    modes = {path.name: path.stat().st_mode & 0o777 for path in pod.config.iterdir() if path.is_file()}
    assert modes[".erlang.cookie"] == 0o400
    assert modes["definitions.json"] == 0o600
    assert (pod.config / ".erlang.cookie").read_text() == "the rabbitmq-cookie"
    files = [path.read_text() for path in pod.config.iterdir() if path.is_file()]
    assert not [text for text in (*files, *command) if "the rabbitmq-password" in text], "only its hash is known"
    assert not [word for word in command if "the rabbitmq-" in word]


def test_the_servers_command_is_the_server_itself(pod: Any) -> None:
    command = rabbitmq(pod, STACK, str)
    assert command[-1] == "/usr/lib/rabbitmq/bin/rabbitmq-server"
    assert "RUNNING_UNDER_SYSTEMD=true" in command, "else its process is a shell that a signal would end alone"


def test_only_plugins_that_are_used_are_read(pod: Any) -> None:
    rabbitmq(pod, STACK, str)
    links = {path.name: str(path.readlink()) for path in (pod.config / "plugins").iterdir()}
    assert set(links) == {"rabbit-4.0.5", "ra-2.14.0", "rabbitmq_management-4.0.5", "rabbitmq_prometheus-4.0.5"}
    assert links["rabbit-4.0.5"] == f"/{PLUGINS}/rabbit-4.0.5", "as the member sees the image"


def test_tools_find_the_cookie_in_their_home() -> None:
    environment = tool_environment()
    assert environment["HOME"] == "/config"
    assert environment["PATH"].startswith("/usr/lib/rabbitmq/bin:")
