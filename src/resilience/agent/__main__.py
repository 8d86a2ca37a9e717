"""``python -m resilience.agent apply|prepare|undo``: see the package's own words."""

import json
import sys

from resilience.agent.error import AgentError
from resilience.agent.start import apply, prepare, undo


def main(argv: list[str]) -> int:
    """Reads a request from standard input, prints one line of JSON and returns the exit code."""
    try:
        answer = _COMMANDS[argv[0]](json.load(sys.stdin))
    except (IndexError, KeyError):
        answer = {"error": "usage: python -m resilience.agent apply|prepare|undo, with a request on standard input"}
    except (AgentError, OSError, ValueError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)  # noqa: T201  # its answer
    return 1 if "error" in answer else 0


_COMMANDS = {"apply": apply, "prepare": prepare, "undo": undo}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
