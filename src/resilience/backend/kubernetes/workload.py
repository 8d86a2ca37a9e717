"""The objects that one run adds to a cluster: its order, the runner's pod, a job for each load client. Pure.

All stand on the observer node and have one volume, ``run``, so that the runner and its load share files as on
``local``, and their clock: one node has one kernel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from resilience.backend.kubernetes import postgresql_tier, rabbitmq
from resilience.backend.kubernetes.manifests import (
    COMPONENT,
    MEMBER,
    NAMESPACES,
    PART_OF,
    PASSWORD_KEY,
    PASSWORD_SECRET,
    SERVICES,
)
from resilience.spec.load import numbered
from resilience.spec.stack import GENERATORS

RUNNER = "runner"  # the pod, its service account, the container that plays
RECORDS = "records"  # the container that hands the record out, also when the runner has ended
ORDER = "run"  # the ConfigMap that says what is to be played
MACHINE = "machine"  # the ConfigMap by which the runner has something done to nodes: `mailbox`
NAMESPACE = NAMESPACES["loadgen"]
VOLUME, STATE, ORDER_DIR, SECRET_DIR = "/runs", "/state", "/order", "/secret"
LOAD = "harmonyflow.dev/load"  # on pods of the load: stacks/kubernetes/base/monitoring/runner.yaml
RUN_DIR, BESIDE_DIR = f"{VOLUME}/run", f"{VOLUME}/beside"
POD, POD_UID, IMAGE = "RESILIENCE_POD", "RESILIENCE_POD_UID", "RESILIENCE_POD_IMAGE"  # the runner's environment
_TMP = "/tmp"  # noqa: S108  a container's own
# A request is a container's weight where processors are short, and a client that waits for one is late, which spoils
# the run; each uses about a quarter of one.
_LOAD_CPU, _RUNNER_CPU, _CPU = "500m", "200m", "50m"
_TIER_CPU = "200m"  # of a tier's client, so that those of all tiers fit there
_SHARE_CPU = "300m"  # of one of several that divide a load between them: two of them fit on a node of two processors
_TIER_CLIENTS = frozenset(GENERATORS) - {"loadgen", "direct-client"}
SECRETS = (PASSWORD_SECRET, postgresql_tier.PASSWORD, rabbitmq.PASSWORD)  # those that runner and clients may read
LIVES_S = 3 * 3_600  # whatever became of the harness outside; the longest scenario takes minutes
# where short names of members are looked up: those that the harness and its clients ask by name
_SEARCHED = ("edge", "prometheus")
_SEARCHED_BY: Mapping[str, Sequence[str]] = {
    "postgresql-client": ("postgresql", "pgbouncer"),
    "rabbitmq-client": ("rabbitmq",),
}

Object = dict[str, Any]


def order(files: Mapping[str, str]) -> Object:
    """The ConfigMap with the files of a run's directory that were written before it began."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(ORDER, RUNNER), "data": dict(files)}


def mailbox() -> Object:
    """The empty ConfigMap that the runner writes its questions into, and the harness outside that it is there."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(MACHINE, RUNNER), "data": {}}


def runner(image: str) -> Object:
    """The pod that plays a run."""
    environment: list[Object] = [
        {"name": POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": IMAGE, "value": image},
        {"name": "XDG_CACHE_HOME", "value": f"{STATE}/cache"},
        {"name": "HOME", "value": STATE},
    ]
    play = _container(
        RUNNER,
        image,
        ["python3", "-m", "resilience.play", ORDER_DIR, RUN_DIR],
        environment,
        _resources("1Gi", _RUNNER_CPU),
    )
    play["volumeMounts"] += [
        {"name": "state", "mountPath": STATE},
        {"name": "order", "mountPath": ORDER_DIR, "readOnly": True},
    ]
    keep = _container(
        RECORDS, image, ["python3", "-m", "resilience.backend.kubernetes.records", "keep"], [], _resources("256Mi")
    )
    spec = _pod_spec([play, keep])
    spec |= {"serviceAccountName": RUNNER, "automountServiceAccountToken": True, "activeDeadlineSeconds": LIVES_S}
    spec["volumes"] += [
        {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "order", "configMap": {"name": ORDER}},
    ]
    metadata = _metadata(RUNNER, RUNNER)
    metadata["annotations"] = {"kubectl.kubernetes.io/default-container": RECORDS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def load_job(
    member: str, component: str, argv: Sequence[str], log: str, environment: Mapping[str, str], *, processes: int = 1
) -> Object:
    """The job of a load client; it ends with the runner's pod, whose ``environment`` names that.

    ``processes``: how many there are of its component.
    """
    folder = f"{BESIDE_DIR}/{member}"
    command = ["python3", "-m", "resilience.backend.kubernetes.beside", folder, log, "--", *argv]
    home: Object = {"name": "HOME", "value": _TMP}
    asked = _resources("1Gi", _TIER_CPU if component in _TIER_CLIENTS else _LOAD_CPU if processes == 1 else _SHARE_CPU)
    container = _container(component, environment[IMAGE], command, [home], asked)
    spec = _pod_spec([container], _SEARCHED_BY.get(component, _SEARCHED))
    spec |= {"serviceAccountName": "load", "hostname": member, "subdomain": SERVICES[component]}
    metadata = _metadata(member, component)
    metadata["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "Pod", "name": environment[POD], "uid": environment[POD_UID]}
    ]
    labels = {**metadata["labels"], MEMBER: member, LOAD: "true"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,  # a client that ended is a fact of the run; another one would know nothing of its ops
            "activeDeadlineSeconds": LIVES_S,
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def run_objects(image: str, workers: int = 1, clients: Sequence[str] = ()) -> list[Object]:
    """What a run adds that asks for room; ``workers``: how many processes of Locust (`load.workers`), ``clients``:
    those of tiers.
    """
    environment = {POD: RUNNER, POD_UID: "", IMAGE: image}
    names = [numbered("loadgen", index) for index in range(workers)]
    jobs = [load_job(name, "loadgen", (), "", environment, processes=workers) for name in names]
    jobs += [load_job(name, name, (), "", environment) for name in ("direct-client", *clients)]
    return [runner(image), *jobs]


def _pod_spec(containers: Sequence[Object], searched: Sequence[str] = _SEARCHED) -> Object:
    # A member's name is asked for in the cluster only: while its pod is away, a server beyond takes seconds to say no.
    spaces = [f"{SERVICES.get(name, name)}.{NAMESPACES[name]}.svc.cluster.local" for name in searched]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "priorityClassName": "harmonyflow-observer",
        "terminationGracePeriodSeconds": 10,
        "nodeSelector": {"harmonyflow.dev/role": "observer"},
        "tolerations": [{"key": "harmonyflow.dev/role", "value": "observer", "effect": "NoSchedule"}],
        "dnsConfig": {"searches": spaces, "options": [{"name": "no-tld-query"}]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10_001,
            "runAsGroup": 10_001,
            "fsGroup": 10_001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": list(containers),
        "volumes": [
            {"name": "run", "persistentVolumeClaim": {"claimName": "run"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "password", "projected": {"sources": [*map(_password, SECRETS)], "defaultMode": 0o440}},
        ],
    }


def _password(name: str) -> Object:
    """A password as the file of its name; that of a tier is there where the stack has the tier."""
    items = [{"key": PASSWORD_KEY, "path": name}]
    return {"secret": {"name": name, "items": items, "optional": name != PASSWORD_SECRET}}


def _resources(memory: str, cpu: str = _CPU) -> Object:
    return {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"memory": memory}}


def _container(
    name: str, image: str, command: Sequence[str], environment: Sequence[Object], resources: Object
) -> Object:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "env": list(environment),
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "run", "mountPath": VOLUME},
            {"name": "tmp", "mountPath": _TMP},
            {"name": "password", "mountPath": SECRET_DIR, "readOnly": True},
        ],
    }


def _metadata(name: str, component: str) -> Object:
    labels = {PART_OF: "harmonyflow", COMPONENT: component}
    return {"name": name, "namespace": NAMESPACE, "labels": labels}
