"""``python -m bench [NAME…] [--repeats N]``: medians and ratios as a table, also in ``reports/bench.md``.

All but ``kind``, ``porcupine`` and ``judging-many`` are measured if none is named.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import (
    failover,
    image,
    judging,
    killed,
    kind,
    lists,
    outage,
    porcupine,
    recorder,
    registers,
    sets,
    watching,
    whole,
)
from bench.measure import ROOT, BenchError, Figure, Place, table
from resilience.backend.local.place import calling_user, hand_over

BENCHMARKS: Mapping[str, Callable[[Place], Iterator[Figure]]] = {
    "image": image.figures,
    "failover": failover.figures,
    "whole": whole.figures,
    "recorder": recorder.figures,
    "killed": killed.figures,
    "outage": outage.figures,
    "judging": judging.figures,
    "judging-many": judging.of_many,
    "sets": sets.figures,
    "registers": registers.figures,
    "lists": lists.figures,
    "watching": watching.figures,
    "kind": kind.figures,
    "porcupine": porcupine.figures,
}
# Docker, and it takes the cluster that is up; Go, and its module; many minutes, and some GB of disk
ASKED_FOR = {"kind", "porcupine", "judging-many"}


def main() -> int:
    """Runs the benchmarks that were named, or all; 0, or 4 if one could not be measured."""
    arguments = _parser().parse_args()
    measured: list[Figure] = []
    broken = 0
    with tempfile.TemporaryDirectory(prefix="harmonyflow-bench-") as reports:
        place = Place(reports=Path(reports), repeats=arguments.repeats)
        for name in arguments.names or [name for name in BENCHMARKS if name not in ASKED_FOR]:
            try:
                measured.extend(BENCHMARKS[name](place))
            except (BenchError, subprocess.TimeoutExpired) as error:
                broken += 1
                print(f"bench: {name}: {error}", file=sys.stderr)
    print(table(measured))
    _keep(table(measured))
    return 4 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured (default: 3)")
    return parser


def _keep(text: str) -> None:
    page = ROOT / "reports" / "bench.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f"{text}\n")
    hand_over(page, calling_user())


if __name__ == "__main__":
    sys.exit(main())
