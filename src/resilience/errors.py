"""Every error that the harness raises on purpose, as one small tree.

::

    HarnessError                 exit code
    ├── SpecError                2   the user's file or command is wrong
    ├── HostError                4   this machine lacks something that the work needs
    ├── StackError               4   the stack could not come up, or an answer of its could not be had
    ├── FaultError               4   a fault could not be injected or healed
    ├── LoadError                4   the load could not be driven
    ├── ControlError             4   the control of a run could not be taken
    └── MetricsError             4   Prometheus could not be asked

The platform under test misbehaving is never an exception: it is a finding. The message is one line that says
what is wrong, where, and what to do; it is shown to people as it is.
"""

from typing import ClassVar


class HarnessError(Exception):
    """Base of all errors of the harness; ``exit_code`` is what the command line ends with."""

    exit_code: ClassVar[int] = 4


class SpecError(HarnessError):
    """A file or an argument of the user's is wrong: says which file, which field and what is expected."""

    exit_code: ClassVar[int] = 2


class HostError(HarnessError):
    """The machine lacks something (Linux, namespaces, a package, disk space): says how to mend it."""


class StackError(HarnessError):
    """The stack or one of its members did not do what the harness needs of it."""


class FaultError(HarnessError):
    """A fault could not be injected, proved or healed."""


class LoadError(HarnessError):
    """The load generator could not be started, or did not reach its rate."""


class ControlError(HarnessError):
    """The run without a fault, that another rests on, could not be carried out."""


class MetricsError(HarnessError):
    """Prometheus could not be asked, or gave an answer that cannot be used."""
