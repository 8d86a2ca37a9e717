"""Container images: which are used, and the project's own one, built here.

By default they are the official ones of the overlay, pulled by the nodes. ``RESILIENCE_IMAGES`` names a file with
others, by official name (YAML: ``redis: registry.example/redis:7.4.2``; ``base`` is what the project's image is built
on), or is ``debian``: images of Debian packages then, for machines that reach no container registry.
"""

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec

from resilience.backend.kubernetes.manifests import image_override, overlay_folder
from resilience.backend.kubernetes.tiers import TIERS, manifests_of
from resilience.backend.local.image import ImageStore, Recipe
from resilience.backend.local.place import PROJECT_ROOT
from resilience.backend.tool import last_error, output
from resilience.errors import HostError, SpecError, StackError

VARIABLE = "RESILIENCE_IMAGES"
PROJECT = "harmonyflow/resilience"
OFFICIAL_BASE = "python:3.13-slim-trixie"
PYTHON = "3.13"  # of the base; the packages are chosen for it
DEBIAN_BASE = Recipe(packages=("python3", "nftables", "iproute2", "tini"))  # Debian 13 has that Python


class Debian(NamedTuple):
    """An image of Debian packages: the name and the packages of what it stands on, and a Dockerfile's lines beside
    that.
    """

    name: str
    recipe: Recipe
    lines: str


# no more than a cluster's members run: all that the stack image holds would be loaded into each node
DEBIAN_SERVERS = Recipe(
    packages=(
        "redis-server", "redis-tools", "prometheus", "prometheus-node-exporter", "prometheus-redis-exporter", "tini",
    )
)  # fmt: skip

DEBIAN_POSTGRESQL = Recipe(packages=("postgresql-17", "pgbouncer", "prometheus-postgres-exporter", "tini"))


# Debian's own script starts no server but as its own user; what it calls does
_RABBITMQ_PATH = "ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _server(entrypoint: str) -> Debian:
    return Debian("harmonyflow/stack", DEBIAN_SERVERS, f'ENTRYPOINT ["{entrypoint}"]')


def _postgresql(*lines: str) -> Debian:
    return Debian("harmonyflow/postgresql", DEBIAN_POSTGRESQL, "\n".join(lines))


# by the official image that each takes the place of; a tier's are built and loaded where a stack has the tier
DEBIAN: Mapping[str, Debian] = {
    "redis": _server("/usr/bin/redis-server"),
    "prom/prometheus": _server("/usr/bin/prometheus"),
    "oliver006/redis_exporter": _server("/usr/bin/prometheus-redis-exporter"),
    "prom/node-exporter": _server("/usr/bin/prometheus-node-exporter"),
    "rabbitmq": Debian("harmonyflow/rabbitmq", Recipe(packages=("rabbitmq-server", "tini")), _RABBITMQ_PATH),
    "postgres": _postgresql(
        # initdb wants the user that it runs as to have a name, which in the official image that one has
        'RUN getent passwd 999 || echo "server:x:999:999::/:/bin/sh" >>/etc/passwd',
        "STOPSIGNAL SIGINT",  # as in the official one: it does not wait for its clients to leave
    ),
    "edoburu/pgbouncer": _postgresql('ENTRYPOINT ["/usr/sbin/pgbouncer"]'),
    "prometheuscommunity/postgres-exporter": _postgresql('ENTRYPOINT ["/usr/bin/prometheus-postgres-exporter"]'),
}
_FILES = ("src", "loadgen", "services", "stacks", "scenarios", "experiments", "pyproject.toml", "requirements.lock")
_LEFT_OUT = ("__pycache__", "*.egg-info")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BUILD_TIMEOUT_S = 1_200
_PUSH_TIMEOUT_S = 600

Say = Callable[[str], None]


class Images(msgspec.Struct, frozen=True, kw_only=True):
    """What is used instead of the official images; ``debian``: those are built here."""

    base: str = OFFICIAL_BASE
    replaced: dict[str, str] = {}
    debian: bool = False


def wanted(environment: Mapping[str, str] = os.environ) -> Images:
    """What the environment asks for. Raises `SpecError` for a file that is none, and for an image that nothing uses: a
    run would say that all is well of another one than its reader thinks of.
    """
    named = environment.get(VARIABLE, "")
    if named in {"", "debian"}:
        return Images(debian=named == "debian")
    try:
        entries = msgspec.yaml.decode(Path(named).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError) as error:
        raise SpecError(f"{VARIABLE}={named}: no file of images: {error}") from error
    base = entries.pop("base", OFFICIAL_BASE)
    for name, image in entries.items():
        if name not in DEBIAN:
            known = ", ".join((*DEBIAN, "base"))
            raise SpecError(f"{VARIABLE}={named}: {name[:80]!r}: nothing here uses that image: expected {known}")
        image_override(name, image)
    return Images(base=base, replaced=entries)


def described(environment: Mapping[str, str] = os.environ, overlay: str = "kind") -> str:
    """Which servers a stack has with these images, in words that change with them. Raises `SpecError`."""
    images = wanted(environment)
    if images.debian:
        recipes = {one.recipe.digest: None for one in DEBIAN.values()}
        return f"kind, image {' '.join(recipes)}, base {DEBIAN_BASE.digest}"
    files = [overlay_folder(overlay), *map(manifests_of, TIERS)]
    versions = b"".join((folder / "kustomization.yaml").read_bytes() for folder in files)
    replaced = msgspec.json.encode((images.base, images.replaced), order="deterministic")
    return f"kind, images {hashlib.sha256(versions + replaced).hexdigest()[:12]}"


def ensure(images: Images, tiers: Iterable[str], store: ImageStore, cache: Path, say: Say) -> dict[str, str]:
    """Builds what is not there; the images that take the place of official ones. Raises `HostError`, `StackError`.

    Images of tiers are built for these alone.
    """
    if not images.debian:
        return {**images.replaced, PROJECT: _project(images.base, cache, say)}
    say("Debian's Python")
    base = _imported("harmonyflow/python", DEBIAN_BASE, store, say)
    servers = _servers(wanted_by(tiers), store, say)
    return {**servers, PROJECT: _project(base, cache, say)}


def wanted_by(tiers: Iterable[str]) -> list[str]:
    """The images that a stack with these tiers uses and that Debian has, by their official names."""
    tiers = set(tiers)
    others = set(chain.from_iterable(tier.images for name, tier in TIERS.items() if name not in tiers))
    return [name for name in DEBIAN if name not in others]


def pushed(image: str, to: str) -> str:
    """An image that was built here as one of a repository that nodes pull from, under its own tag. Raises `HostError`,
    `StackError`.
    """
    there = f"{to}:{image.rpartition(':')[2]}"
    output(["docker", "tag", image, there], timeout_s=_PUSH_TIMEOUT_S)
    output(["docker", "push", "--quiet", there], timeout_s=_PUSH_TIMEOUT_S)
    return there


def repository(image: str) -> str:
    """An image's name without tag and digest: what an official one is replaced by."""
    name = image.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


def override(image: str) -> str:
    """What to do about an image that cannot be had."""
    name = repository(image)
    if name not in {*DEBIAN, "base"}:
        return f"the file in {VARIABLE} names it: name one there that can be had"
    return f"name another in a file ('{name}: REPOSITORY:TAG') and that file in {VARIABLE}"


def _servers(names: Iterable[str], store: ImageStore, say: Say) -> dict[str, str]:
    say("Debian's servers")
    servers: dict[str, str] = {}
    roots: dict[str, str] = {}  # several servers stand on one
    for name in names:
        debian = DEBIAN[name]
        if debian.name not in roots:
            roots[debian.name] = _imported(debian.name, debian.recipe, store, say)
        root = roots[debian.name]
        image = f"harmonyflow/debian-{name.rpartition('/')[2]}:{root.rpartition(':')[2]}"
        if not is_here(image):
            _build("-", image, text=f"FROM {root}\n{debian.lines}\n")
        servers[name] = image
    return servers


def _imported(name: str, recipe: Recipe, store: ImageStore, say: Say) -> str:
    """A root file system of Debian packages as a container image."""
    image = f"{name}:{recipe.digest}"
    if is_here(image):
        return image
    root = store.ensure(recipe, say)
    say(f"importing {image}")
    pack = ["tar", "-C", str(root), "--numeric-owner", "-cf", "-", "."]
    if trouble := piped(pack, ["docker", "import", "--change", f"ENV PATH={_PATH}", "-", image], _BUILD_TIMEOUT_S):
        raise StackError(f"{image}: could not be imported: {trouble}")
    return image


def piped(source: Sequence[str], sink: Sequence[str], timeout_s: float) -> str:
    """Runs two commands, the second on the output of the first; what went wrong, "" if nothing did."""
    with subprocess.Popen(source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        try:
            second = subprocess.run(sink, stdin=first.stdout, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            first.kill()
            return f"'{' '.join(sink[:2])}' did not end within {timeout_s:g} s"
        assert first.stdout is not None
        first.stdout.close()  # or it would wait for ever for a reader that has given up
    if second.returncode != 0:
        return last_error(second.stderr.decode(errors="replace"))
    return "" if first.returncode == 0 else f"'{source[0]}' ended with {first.returncode}"


def _project(base: str, cache: Path, say: Say) -> str:
    """The project's image, for the sources as they are now."""
    image = f"{PROJECT}:{digest(base, PROJECT_ROOT)}"
    if is_here(image):
        return image
    context = cache / "kind" / f"context-{os.getpid()}"
    try:
        say("packages of requirements.lock")
        _copy_packages(cache / "kind", context)
        _copy_project(context / "project")
        shutil.copy(PROJECT_ROOT / "stacks" / "kubernetes" / "Dockerfile", context)
        say(f"building {image} on {base}")
        _build_on(base, str(context), image)
    finally:
        shutil.rmtree(context, ignore_errors=True)
    return image


def _build_on(base: str, context: str, image: str) -> None:
    try:
        _build(context, image, f"BASE={base}")
    except StackError as error:
        if is_here(base):
            raise
        raise StackError(f"{error}; if image {base} cannot be pulled: {override('base')}") from error


def digest(base: str, root: Path) -> str:
    """Twelve hex digits that change with whatever the project's image is made of."""
    total = hashlib.sha256(base.encode())
    for path in source_files(root):
        total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def source_files(root: Path) -> Iterable[Path]:
    """The files of the project that its image holds, in order."""
    for name in _FILES:
        place = root / name
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts):
                yield path


def _copy_project(target: Path) -> None:
    for path in source_files(PROJECT_ROOT):
        place = target / path.relative_to(PROJECT_ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _copy_packages(kept: Path, context: Path) -> None:
    """The packages that the project needs, as locked; installed once for each lock."""
    lock = PROJECT_ROOT / "requirements.lock"
    folder = kept / f"packages-{hashlib.sha256(lock.read_bytes() + PYTHON.encode()).hexdigest()[:12]}"
    if not folder.exists():
        for old in kept.glob("packages-*"):
            shutil.rmtree(old)
        new = kept / f"new-{os.getpid()}"
        uv = [str(PROJECT_ROOT / "setup" / "environment"), "uv", "pip", "install", "--quiet", "--no-compile-bytecode"]
        there = ["--python-version", PYTHON, "--python-platform", f"{platform.machine()}-manylinux_2_28"]
        what = ["--only-binary", ":all:", "--constraint", str(lock), "-r", str(PROJECT_ROOT / "pyproject.toml")]
        output([*uv, *there, "--target", str(new), *what], timeout_s=_BUILD_TIMEOUT_S)
        new.rename(folder)
    shutil.copytree(folder, context / "packages", copy_function=os.link)


def _build(context: str, image: str, *arguments: str, text: str = "") -> None:
    named = [word for argument in arguments for word in ("--build-arg", argument)]
    output(["docker", "build", "--quiet", "--tag", image, *named, context], timeout_s=_BUILD_TIMEOUT_S, text=text)


def is_here(image: str) -> bool:
    """Whether the Docker daemon has an image. Raises `HostError` without Docker."""
    try:
        output(["docker", "image", "inspect", "--format", "{{.Id}}", image], timeout_s=60)
    except HostError:
        raise
    except StackError:
        return False
    return True
