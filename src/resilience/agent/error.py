"""The agent's only error."""


class AgentError(Exception):
    """The agent cannot do what it was asked: one line that says what, where and why."""
