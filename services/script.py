"""Lua scripts: sent by digest, and in full once to a server that does not have them yet."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from services.redis_node import Command


@dataclass(frozen=True, kw_only=True)
class Script:
    """One script; all keys of a call must be in one slot."""

    text: str
    digest: str

    @classmethod
    def load(cls, name: str) -> "Script":
        """The script `lua/NAME.lua`."""
        text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text(encoding="utf-8")
        return cls(text=text, digest=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def by_digest(self, keys: tuple[str, ...], args: Command) -> Command:
        """The call for a server that has the script."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)

    def in_full(self, keys: tuple[str, ...], args: Command) -> Command:
        """The call for a server that answered `NOSCRIPT`, which means that it did nothing."""
        return ("EVAL", self.text, len(keys), *keys, *args)
