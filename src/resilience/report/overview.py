"""The run as one inline SVG drawing, for a page whose scripts do not run."""

from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from resilience.report.charts import Chart, Charts

_STACKED = ("ok", "unknown", "fail")  # from the ground up
_FLOOR_PERCENT = 0.1  # nothing is drawn narrower


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a stacked bar: seconds across, shares of the highest bar up."""

    kind: str
    start: float
    end: float
    top: float
    height: float


def overview_svg(environment: jinja2.Environment, charts: Charts) -> Markup:
    """The drawing: widths are shares of the page's, so that its texts stay readable at any."""
    length = max(charts.end - charts.start, 1e-9)
    throughput = next((chart for chart in charts.charts if chart.id == "throughput"), None)
    peak = _peak(throughput) if throughput else 0.0

    def x(at: float) -> str:
        return f"{min(max((at - charts.start) / length, 0.0), 1.0) * 100:.3f}"

    def width(start: float, end: float) -> str:
        share = (min(end, charts.end) - max(start, charts.start)) / length * 100
        return f"{max(share, _FLOOR_PERCENT):.3f}"

    bars = list(_bars(throughput, peak)) if throughput and peak else []
    rows = max((outage.row + 1 for outage in charts.outages), default=0)
    template = environment.get_template("overview.svg.j2")
    drawing = template.render(charts=charts, throughput=bars, peak=peak, rows=rows, x=x, w=width)
    return Markup(drawing)  # noqa: S704 - rendered by the same escaping environment


def _peak(chart: Chart) -> float:
    columns = zip(*(line.values for line in chart.series), strict=True)
    return max((sum(value or 0.0 for value in column) for column in columns), default=0.0)


def _bars(chart: Chart, peak: float) -> Iterator[Bar]:
    lines = {line.kind: line.values for line in chart.series}
    for index, middle in enumerate(chart.t):
        ground = 0.0
        for kind in _STACKED:
            height = (lines[kind][index] or 0.0) / peak if kind in lines else 0.0
            if height:
                ground += height
                yield Bar(kind, middle - 0.5, middle + 0.5, ground, height)
