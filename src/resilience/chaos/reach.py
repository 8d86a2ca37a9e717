"""Brings an activity to where it can be done: in a run to the run's session, else into the stack that is up.

By hand (``chaos run experiments/…``) no session is named. Then the activity goes through the control socket of the
stack that ``resilience up`` keeps up, and is done inside. A caller is known by its process, so that one ``chaos run``
is one experiment with phases of its own.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from resilience.agent.process import look_up
from resilience.backend.local.control import ask
from resilience.backend.local.place import calling_user, standing_dir
from resilience.chaos.failing import activity
from resilience.chaos.perform import Answer, perform
from resilience.chaos.session import SESSION_ENV, open_session

_LOGGER = logging.getLogger("chaostoolkit")


def call(name: str, configuration: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
    """Does an activity and returns what it returns; what it says goes to the log. Raises `ActivityFailed`."""
    with activity():
        if os.environ.get(SESSION_ENV):
            answer = perform(open_session(), name, arguments)
        else:
            answer = _by_hand(name, arguments, configuration or {})
    for line in answer.says:
        _LOGGER.warning(line)
    return answer.value


def _by_hand(name: str, arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    process = look_up(os.getpid())
    assert process is not None
    request = {
        "do": "activity",
        "activity": name,
        "arguments": arguments,
        "configuration": configuration,
        "caller": f"{process.pid}-{process.start}",
    }
    return msgspec.convert(ask(standing_dir(calling_user()), request), Answer)
