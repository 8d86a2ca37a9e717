"""Numbers as people read them in a finding."""


def count(number: int, noun: str) -> str:
    """``1 op``, ``2,000 ops``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(ratio: float) -> str:
    """A ratio as per cent, with as many digits as a ratio near 1 needs; never rounded up to 100 %."""
    text = f"{ratio * 100:.3f}".rstrip("0").rstrip(".")
    return "99.999 %" if text == "100" and ratio < 1 else f"{text} %"


def seconds(value_s: float) -> str:
    """Seconds to the millisecond below ten, to the hundredth above."""
    return f"{value_s:.3f} s" if abs(value_s) < 10 else f"{value_s:.2f} s"


def span(newest_s: float, oldest_s: float) -> str:
    """When lost writes were acknowledged, from their ages at the instant the fault took effect."""
    if newest_s >= 0:
        return f"{seconds(newest_s)} to {seconds(oldest_s)} before the fault took effect"
    if oldest_s <= 0:
        return f"{seconds(-oldest_s)} to {seconds(-newest_s)} after the fault took effect"
    return f"from {seconds(oldest_s)} before to {seconds(-newest_s)} after the fault took effect"
