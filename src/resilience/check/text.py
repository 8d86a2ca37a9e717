"""Numbers as people read them in a finding."""

import signal
from typing import Any


def count(number: int, noun: str) -> str:
    """``1 op``, ``2,000 ops``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(ratio: float) -> str:
    """A ratio as per cent, with as many digits as a ratio near 1 needs; never rounded up to 100 %."""
    text = f"{ratio * 100:.3f}".rstrip("0").rstrip(".")
    return "99.999 %" if text == "100" and ratio < 1 else f"{text} %"


def ended_text(code: Any) -> str:
    """How a process ended: ``was killed by SIGKILL`` of -9, and of 137 as a shell has it; else its exit code."""
    number = code if isinstance(code, int) else 0
    try:
        return f"was killed by {signal.Signals(number - 128 if number > 128 else -number).name}"
    except ValueError:
        return f"ended with exit code {code}"


def seconds(value_s: float) -> str:
    """Seconds to the millisecond below ten, to the hundredth above."""
    return f"{value_s:.3f} s" if abs(value_s) < 10 else f"{value_s:.2f} s"


def span(newest_s: float, oldest_s: float) -> str:
    """When lost writes were acknowledged, from their ages at the instant the fault took effect."""
    newest, oldest = seconds(abs(newest_s)), seconds(abs(oldest_s))
    if newest_s < 0 < oldest_s:
        return f"from {oldest} before to {newest} after the fault took effect"
    first, last = (newest, oldest) if newest_s >= 0 else (oldest, newest)
    ages = first if first == last else f"{first} to {last}"
    return f"{ages} {'before' if newest_s >= 0 else 'after'} the fault took effect"


def duration(value_s: float) -> str:
    """A time of minutes or hours, e.g. ``40 s``, ``12 min``, ``2 h 05 min``."""
    if value_s < 90:
        return f"{value_s:.0f} s"
    minutes = round(value_s / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if rest else f"{hours} h"
