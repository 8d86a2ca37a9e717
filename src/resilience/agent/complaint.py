"""What went wrong in the agent, for whoever reads ``agent.log``."""

import contextlib
import traceback


def complain() -> None:
    """Writes down the exception that is being handled, as far as there is room: no healing may end for want of it."""
    with contextlib.suppress(OSError):
        traceback.print_exc()
