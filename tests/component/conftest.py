"""Component tests run in a sandbox: ``resilience sandbox -- pytest tests/component`` (``make test-component``)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.local.platform import OwnedLocalPlatform
from resilience.backend.local.sandbox import image_inside
from resilience.spec.read import read_stack
from resilience.spec.stack import Stack
from tests.component.local_stack import brought_up
from tests.component.redis_on_loopback import Cluster, redis_cluster


def pytest_configure() -> None:
    image = image_inside()
    if image:
        os.environ["RESILIENCE_IMAGE"] = str(image)


@pytest.fixture(scope="session")
def image() -> Path:
    """The root of the stack image."""
    found = image_inside()
    if found is None:
        pytest.fail("component tests need a sandbox: run 'make test-component'")
    return found


@pytest.fixture(scope="session")
def shipped_stack() -> Stack:
    return read_stack(PROJECT_ROOT, "stacks/local/harmonyflow.yaml")


@pytest.fixture(scope="module")
def platform(
    image: Path, shipped_stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnedLocalPlatform]:
    """The shipped stack, its processes started and nothing waited for; one for each test module."""
    with brought_up(shipped_stack, image, tmp_path_factory.mktemp("members")) as owned:
        yield owned


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A Redis Cluster on loopback, from the module's ``REDIS_PORT`` on."""
    with redis_cluster(request.module.REDIS_PORT) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Where the module's services keep their files."""
    return tmp_path_factory.mktemp(request.module.__name__.rpartition("_")[2])
