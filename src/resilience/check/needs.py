"""What verdicts rest on, by the kind of finding: the names of assumptions (`check.compose.ASSUMPTIONS`)."""

from resilience.spec.stack import Stack

RECORD = ("assumption.history-whole",)
WHOLE = (*RECORD, "assumption.not-interrupted", "assumption.phases-complete")
LOAD = ("assumption.generator-alive", "assumption.load-rate")
CONTROL = ("assumption.control",)  # the same platform is well while nothing is broken
FAULT = ("assumption.experiment-completed", "assumption.fault-proved", "assumption.fault-healed", *CONTROL)
SHARDS = ("assumption.shards-known",)
AUDIT = ("assumption.audit-complete",)
ROWS = ("assumption.postgresql-audited",)
LISTS = ("assumption.lists-audited",)
PRIMARY = ("assumption.postgresql-known",)
QUEUES = ("assumption.rabbitmq-drained",)
OUTBOX = ("assumption.outbox-audited",)
PROFILES = ("assumption.profiles-audited",)
ROOMS = ("assumption.rooms-audited",)  # where the logs of rooms are in PostgreSQL
CONTENT = ("assumption.content-audited",)  # its articles and their jobs
TIMING = ("assumption.schedule-lag", "assumption.generator-cpu")
CLOCK = ("assumption.clock-step",)  # of the wall clock, by which servers and Prometheus go
CLOCKS = ("assumption.clocks",)  # of processes under several kernels
METRICS = ("assumption.coverage", *CLOCK, "assumption.totals-reconciled")


def rooms(stack: Stack) -> tuple[str, ...]:
    """What the logs of rooms were read by: Redis' audit, or one of their own."""
    return ROOMS if stack.has_rooms_in_postgresql else AUDIT


def in_phase(phase: str) -> tuple[str, ...]:
    """What a number that was taken in a phase rests on: before the fault nothing that the fault did or did not."""
    return WHOLE + LOAD + (FAULT if phase in {"fault", "recovery"} else CONTROL)
