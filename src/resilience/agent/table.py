"""What the agent makes of a request's parts: each names its kind, and a table says who it is for."""

from collections.abc import Callable, Mapping
from typing import Any

from resilience.agent.error import AgentError


def made[Part](
    word: str, table: Mapping[str, Callable[[str, Mapping[str, Any]], Part]], injection_id: str, data: Mapping[str, Any]
) -> Part:
    """The part that ``data[word]`` names. Raises `AgentError` if there is none, or something of it is missing."""
    make = table.get(data.get(word, ""))
    if make is None:
        raise AgentError(f"{word} {data.get(word)!r}: expected one of {', '.join(table)}")
    try:
        return make(injection_id, data)
    except (KeyError, TypeError, ValueError) as error:
        raise AgentError(f"{word} {data[word]}: {error!r}") from error
