"""What a run needs of this machine, each with the one command that mends it.

`Facts` are what was found out by trying; what they amount to is decided apart from that, by pure functions.
"""

import contextlib
import os
import platform
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resilience.backend import memory
from resilience.backend.local.place import PROJECT_ROOT, cache_elsewhere, calling_user
from resilience.errors import HostError

IMAGE_BYTES = 3_000_000_000  # an image and its build beside it
REPORT_BYTES = 500_000_000
MEMORY_BYTES = 2_000_000_000
PROBE_TIMEOUT_S = 20

RUN_TOOLS: Mapping[str, str] = {  # tool: Debian's package
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "pivot_root": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "nft": "nftables",
}
_NAMESPACE_TOOLS = frozenset({"unshare", "mount"})  # without them nothing can be tried
BUILD_TOOLS: Mapping[str, str] = {"mmdebstrap": "mmdebstrap", "tar": "tar"}
USER_BUILD_TOOLS: Mapping[str, str] = {"newuidmap": "uidmap"}  # for who is not root

SWITCHES: Mapping[str, tuple[str, str]] = {  # kernel setting: (value that forbids, value that allows)
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel/unprivileged_userns_clone": ("0", "1"),
    "user/max_user_namespaces": ("0", "15000"),
}
_BRIDGE = "link add hf0 type bridge\nlink add hf1 type veth peer name hf2\nlink set hf1 master hf0\n"
_FILTER = """table bridge hf {
    chain c {
        type filter hook forward priority 0; policy accept;
        ip saddr 198.18.0.2 counter drop
    }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the machine is and did when it was tried; a refusal is the kernel's last word, "" if there was none."""

    system: str
    root: bool
    building: bool  # whether the stack image has still to be built
    missing_tools: frozenset[str] = frozenset()
    namespaces_refused: str = ""
    switches: Mapping[str, str] = field(default_factory=dict)  # of `SWITCHES`, as far as the kernel has them
    bridge_refused: str = ""
    filter_refused: str = ""
    sub_ids: bool = True  # whether the user has a range of subordinate user ids
    cache: Path
    cache_elsewhere: str  # what a person does to have it in another place
    cache_free_bytes: int
    reports: Path
    reports_refused: str = ""  # why no report can be written there
    report_free_bytes: int
    memory_free_bytes: int

    @property
    def sudo(self) -> str:
        """What a command for administrators begins with."""
        return "" if self.root else "sudo "


def require_host(cache: Path, *, building: bool, reports: Path = PROJECT_ROOT / "reports") -> None:
    """Raises `HostError` with the first thing that this machine lacks, and what mends it."""
    for problem in problems(cache, building=building, reports=reports):
        raise HostError(problem)


def problems(cache: Path, *, building: bool = True, reports: Path = PROJECT_ROOT / "reports") -> tuple[str, ...]:
    """All that this machine lacks for a run, one line each; ``building``: the image has still to be built."""
    return problems_of(facts_of_host(cache, reports, building=building))


# --- what the facts amount to ----------------------------------------------------------------------------------------


def problems_of(facts: Facts) -> tuple[str, ...]:
    """The problems, in the order in which one would mend them."""
    if facts.system != "Linux":
        return (
            f"this is {facts.system}: the local backend needs the namespaces of a Linux kernel; use a Linux machine",
        )
    return tuple(problem for question in _QUESTIONS for problem in question.amiss(facts))


def _tools(facts: Facts) -> Iterator[str]:
    packages = tools_needed(root=facts.root, building=facts.building)
    for tool in packages:
        if tool in facts.missing_tools:
            yield f"'{tool}' is not installed: {facts.sudo}apt-get install {packages[tool]}"


def _namespaces(facts: Facts) -> Iterator[str]:
    if facts.namespaces_refused:
        yield f"namespaces cannot be made ({facts.namespaces_refused}): {_namespaces_mended(facts)}"


def _namespaces_mended(facts: Facts) -> str:
    if facts.root:
        return "run on the machine itself, or in a container with all privileges (docker run --privileged)"
    for switch, (forbids, allows) in SWITCHES.items():
        if facts.switches.get(switch) == forbids:
            why = "AppArmor restricts user namespaces; " if "apparmor" in switch else ""
            return f"{why}run it with sudo, or: sudo sysctl -w {switch.replace('/', '.')}={allows}"
    return "run it with sudo"


def _network(facts: Facts) -> Iterator[str]:
    if facts.bridge_refused:
        yield f"no bridge or veth can be made ({facts.bridge_refused}): {facts.sudo}modprobe -a bridge veth"
    if facts.filter_refused:
        yield (
            f"no packet filter works on a bridge ({facts.filter_refused}): {facts.sudo}modprobe -a nf_tables"
            " nft_meta_bridge (the kernel needs CONFIG_NF_TABLES_BRIDGE)"
        )


def _build_user(facts: Facts) -> Iterator[str]:
    if facts.building and not facts.root and not facts.sub_ids:
        yield (
            "the image cannot be built without subordinate user ids:"
            " sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
        )


def _place(facts: Facts) -> Iterator[str]:
    if facts.reports_refused:
        yield f"no report can be written in {facts.reports} ({facts.reports_refused}): name another place by --reports"


def _space(facts: Facts) -> Iterator[str]:
    if facts.building and facts.cache_free_bytes < IMAGE_BYTES:
        yield _too_little("the stack image", IMAGE_BYTES, facts.cache, facts.cache_free_bytes, facts.cache_elsewhere)
    if facts.report_free_bytes < REPORT_BYTES:
        elsewhere = "name another place by --reports"
        yield _too_little("a report", REPORT_BYTES, facts.reports, facts.report_free_bytes, elsewhere)


def _too_little(what: str, needed: int, folder: Path, free: int, elsewhere: str) -> str:
    return f"{what} needs {needed / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free: free some, or {elsewhere}"


def _memory(facts: Facts) -> Iterator[str]:
    if facts.memory_free_bytes < MEMORY_BYTES:
        yield (
            f"a run needs {MEMORY_BYTES / 1e9:.1f} GB of memory, {facts.memory_free_bytes / 1e9:.1f} GB are free:"
            " end what uses it ('ps aux --sort=-rss | head' shows it)"
        )


def _could_tools(facts: Facts) -> str:
    return ", ".join(tools_needed(root=facts.root, building=facts.building))


def _could_namespaces(facts: Facts) -> str:
    if facts.missing_tools & _NAMESPACE_TOOLS:
        return ""
    return "made, as root" if facts.root else "made, in a user namespace: no administrator is needed"


def _could_network(facts: Facts) -> str:
    untried = facts.namespaces_refused or facts.missing_tools & (_NAMESPACE_TOOLS | {"ip", "nft"})
    return "" if untried else "a bridge, links and rules, in a network of their own"


def _could_image(facts: Facts) -> str:
    return "has still to be built: 'make image', or the first run, does it" if facts.building else "is built"


def _could_space(facts: Facts) -> str:
    return f"{facts.cache_free_bytes / 1e9:.1f} GB free for images, {facts.report_free_bytes / 1e9:.1f} GB for reports"


def _could_place(facts: Facts) -> str:
    return f"can be written in {facts.reports}"


def _could_memory(facts: Facts) -> str:
    return f"{facts.memory_free_bytes / 1e9:.1f} GB free, {MEMORY_BYTES / 1e9:.1f} GB are needed"


@dataclass(frozen=True, slots=True)
class _Question:
    """Something that a run needs: what is amiss with it, and what it is like if nothing is ("": it was not tried)."""

    name: str
    amiss: Callable[[Facts], Iterator[str]]
    well: Callable[[Facts], str]


_QUESTIONS = (
    _Question("tools", _tools, _could_tools),
    _Question("namespaces", _namespaces, _could_namespaces),
    _Question("network", _network, _could_network),
    _Question("image", _build_user, _could_image),
    _Question("reports", _place, _could_place),
    _Question("disk", _space, _could_space),
    _Question("memory", _memory, _could_memory),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that a run needs: problems, else what it is like ("": it could not be tried)."""

    name: str
    problems: tuple[str, ...]
    well: str


def answers_of(facts: Facts) -> tuple[Answer, ...]:
    """All that a run needs of this machine, the good and the bad, in the order in which one would mend it."""
    if facts.system != "Linux":
        return (Answer("system", problems_of(facts), ""),)
    return tuple(
        Answer(question.name, problems, "" if problems else question.well(facts))
        for question in _QUESTIONS
        for problems in [tuple(question.amiss(facts))]
    )


def tools_needed(*, root: bool, building: bool) -> dict[str, str]:
    """The system's tools that are needed, with the Debian package of each."""
    needed = dict(RUN_TOOLS)
    if building:
        needed |= BUILD_TOOLS
        needed |= {} if root else USER_BUILD_TOOLS
    return needed


# --- finding the facts out -------------------------------------------------------------------------------------------


def system_path(path: str) -> str:
    """A search path with the folders of administrators' tools, which an ordinary user's leaves out on Debian."""
    folders = path.split(":") if path else []
    return ":".join([*folders, *(folder for folder in ("/usr/sbin", "/sbin") if folder not in folders)])


def facts_of_host(cache: Path, reports: Path, *, building: bool) -> Facts:
    """Tries everything that a run does to the kernel, in namespaces that are gone when this returns."""
    root = os.geteuid() == 0
    path = system_path(os.environ.get("PATH", ""))
    missing = frozenset(
        tool for tool in tools_needed(root=root, building=building) if shutil.which(tool, path=path) is None
    )
    refusals = _refusals(missing, root=root) if platform.system() == "Linux" else ("", "", "")
    return Facts(
        system=platform.system(),
        root=root,
        building=building,
        missing_tools=missing,
        namespaces_refused=refusals[0],
        bridge_refused=refusals[1],
        filter_refused=refusals[2],
        switches={name: text for name in SWITCHES if (text := _text(Path("/proc/sys", name)))},
        sub_ids=_has_sub_ids(),
        cache=cache,
        cache_elsewhere=cache_elsewhere(calling_user()),
        cache_free_bytes=free_bytes(cache),
        reports=reports,
        reports_refused=refused_to_write(reports),
        report_free_bytes=free_bytes(reports),
        memory_free_bytes=memory.available_bytes(_text(Path("/proc/meminfo"))),
    )


def _refusals(missing: frozenset[str], *, root: bool) -> tuple[str, str, str]:
    """What the kernel refuses: namespaces, bridge, filter; what cannot be tried is not refused."""
    if missing & _NAMESPACE_TOOLS:
        return "", "", ""
    namespaces = attempt([*inside(root=root), "mount", "-t", "tmpfs", "harmonyflow", "/tmp"])  # noqa: S108  of its own
    if namespaces:
        return namespaces, "", ""
    return (
        "",
        "" if "ip" in missing else attempt([*inside(root=root), "ip", "-batch", "-"], _BRIDGE),
        "" if "nft" in missing else attempt([*inside(root=root), "nft", "-f", "-"], _FILTER),
    )


def inside(*, root: bool) -> list[str]:
    """The command that runs another in the kinds of namespaces that the sandbox has."""
    user = [] if root else ["unshare", "--user", "--map-root-user"]
    kinds = ["--net", "--pid", "--mount", "--uts", "--ipc"]
    return [*user, "unshare", *kinds, "--fork", "--kill-child", "--mount-proc"]


def attempt(argv: Sequence[str], text: str = "") -> str:
    """Runs a command with ``text`` as its input; what it said if it failed, in one line, else ""."""
    try:
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            env={**os.environ, "PATH": system_path(os.environ.get("PATH", ""))},
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_TIMEOUT_S} s"
    except OSError as error:
        return f"{argv[0]}: {error.strerror}"
    if done.returncode == 0:
        return ""
    said = [line for line in done.stderr.splitlines() if ":" in line]
    return (said or [f"exit {done.returncode}"])[0].strip()


def _has_sub_ids() -> bool:
    listed = {line.split(":")[0] for line in _text(Path("/etc/subuid")).splitlines()}
    with contextlib.suppress(KeyError):  # a number without a name, as in some containers
        listed |= {str(os.getuid())} if pwd.getpwuid(os.getuid()).pw_name in listed else set()
    return str(os.getuid()) in listed


def free_bytes(folder: Path) -> int:
    """Free space where the folder is, or will be."""
    return shutil.disk_usage(_existing(folder)).free


def refused_to_write(folder: Path) -> str:
    """Why nothing can be written where the folder is, or will be; "" if something can. Nothing is tried."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # what is there already decides
    except OSError as error:  # a name that is too long, links in a circle, a folder that cannot be searched
        return str(error.strerror)
    place = _existing(folder)
    if not place.is_dir():
        return f"{place} is no folder"
    if os.access(place, os.W_OK | os.X_OK):
        return ""
    read_only = os.statvfs(place).f_flag & os.ST_RDONLY
    return f"{place} is on a file system that is read-only" if read_only else f"{place} is not this user's to write in"


def _existing(folder: Path) -> Path:
    """The folder, or the first one above it that is there and can be looked at."""
    places = (folder.absolute(), *folder.absolute().parents)
    return next(place for place in places if os.path.exists(place))  # noqa: PTH110 - Path.exists raises for some


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
