"""The finding of an assumption: it holds, or the reasons why it does not."""

from collections.abc import Iterable

from resilience.check.finding import Finding


def held_unless(name: str, title: str, reasons: Iterable[str], measured: str = "", allowed: str = "") -> Finding:
    """A pass if there are no reasons against it; else inconclusive, with the first five of them."""
    against = tuple(dict.fromkeys(reasons))
    more = f" (and {len(against) - 5} more)" if len(against) > 5 else ""
    return Finding(
        check=f"assumption.{name}",
        verdict="inconclusive" if against else "pass",
        title=title,
        measured=measured,
        allowed=allowed,
        reason="; ".join(against[:5]) + more,
    )
