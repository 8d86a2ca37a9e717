from pathlib import Path

import pytest

from resilience.agent.cgroup import container_of, processes_of

UID = "5911d53b-655f-4b1b-88c8-da33e4a8851d"
CONTAINER = "a5c16b0a327ca05dbba8de4dfe091ce216a4b96196028b66b3e59a7bd9338709"
SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod{UID}/{CONTAINER}",
        f"/docker/{'0' * 64}/kubelet/kubepods/pod{UID}/{CONTAINER}",
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-{SLICE}/cri-containerd-{CONTAINER}.scope",
        f"/kubepods.slice/kubepods-burstable.slice/{SLICE}/crio-{CONTAINER}.scope",
        f"/../../{SLICE}/cri-containerd-{CONTAINER}.scope",  # as seen from a control group namespace
    ],
)
@pytest.mark.parametrize("line", ["0::{}", "12:cpuset:/\n3:memory:{}\n0::/"])
def test_a_pods_container(path: str, line: str):
    assert container_of(line.format(path)) == (UID, CONTAINER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0::/init.scope",
        f"0::/docker/{CONTAINER}",
        f"0::/kubepods/burstable/pod{UID}",  # of the pod as a whole: no container's
        f"0::/kubepods/burstable/pod{UID[:-1]}/{CONTAINER}",
        f"0::/kubepods/pod{UID}/{CONTAINER[:-1]}",
    ],
)
def test_no_pods_container(text: str):
    assert container_of(text) is None


def test_all_that_runs_in_a_pod(tmp_path: Path):
    other = UID.replace("5", "6")
    for pid, uid in {"17": UID, "18": other, "19": UID, "self": UID}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cgroup").write_text(f"0::/kubepods/pod{uid}/{CONTAINER}\n")
    (tmp_path / "20").mkdir()  # it ended while it was being looked for
    assert sorted(processes_of(UID, tmp_path)) == [(17, CONTAINER), (19, CONTAINER)]
    assert list(processes_of("", tmp_path)) == []
