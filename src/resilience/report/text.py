"""Text of unknown origin made safe to show, and numbers as people read them."""

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format (bidi marks too), surrogates, line separators
_NOT_XML = re.compile(  # what XML 1.0 forbids, other control characters, and marks that turn the direction of text
    "[^\t\n\r\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""The text with every character that does not show itself written out, e.g. ``\x1b``; nothing is lost."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _hides(character) else character for character in text)


def shortened(text: str, length_max: int) -> str:
    """The text, cut off where it is longer than that."""
    return text if len(text) <= length_max else f"{text[: length_max - 1]}…"


def xml_text(text: str) -> str:
    """The text without the characters that no XML file may hold, and without other control characters."""
    return _NOT_XML.sub("", text)


def instant_text(instant_us: int) -> str:
    """An instant on the run's clock, e.g. ``31.250 s``; "" where there is none (-1)."""
    return f"{instant_us / 1_000_000:.3f} s" if instant_us >= 0 else ""


def window_text(start_us: int, end_us: int) -> str:
    """An interval on the run's clock, e.g. ``31.250 to 36.900 s``; "" where there is none."""
    if start_us < 0:
        return ""
    if end_us < 0:
        return f"from {instant_text(start_us)} on"
    return f"{start_us / 1_000_000:.3f} to {instant_text(end_us)}"


def took_text(seconds: float) -> str:
    """How long something took, e.g. ``3.4 s`` or ``2 min 05 s``."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _hides(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _escaped(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
