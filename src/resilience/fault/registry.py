"""Which class carries out which kind of fault: the one list to add a new fault to."""

from collections.abc import Callable, Mapping
from typing import Any

from resilience.fault.base import Fault
from resilience.fault.cut_replication import CutReplicationFault
from resilience.fault.delete import DeleteFault
from resilience.fault.deny import DenyFault
from resilience.fault.drain import DrainFault
from resilience.fault.fast_restart import FastRestartFault
from resilience.fault.freeze import FreezeFault
from resilience.fault.isolate import IsolateFault
from resilience.fault.kill import KillFault
from resilience.fault.noop import NoopFault
from resilience.fault.partition import PartitionFault
from resilience.fault.pause import PauseFault
from resilience.fault.power_off import PowerOffFault
from resilience.fault.reboot import RebootFault
from resilience.fault.rolling_restart import RollingRestartFault
from resilience.fault.scale import ScaleFault
from resilience.spec import fault as spec

FAULTS: Mapping[type, Callable[[Any], Fault]] = {
    spec.Noop: NoopFault,
    spec.Kill: KillFault,
    spec.Pause: PauseFault,
    spec.FastRestart: FastRestartFault,
    spec.PowerOff: PowerOffFault,
    spec.Freeze: FreezeFault,
    spec.Isolate: IsolateFault,
    spec.Reboot: RebootFault,
    spec.Drain: DrainFault,
    spec.Delete: DeleteFault,
    spec.Scale: ScaleFault,
    spec.Deny: DenyFault,
    spec.RollingRestart: RollingRestartFault,
    spec.Partition: PartitionFault,
    spec.CutReplication: CutReplicationFault,
}


def fault_from_spec(wanted: spec.FaultSpec) -> Fault:
    """The fault that a specification names."""
    return FAULTS[type(wanted)](wanted)
