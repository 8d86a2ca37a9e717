"use strict";
// Draws the charts of a report from the JSON in the page. Nothing is computed here but pixels.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const holders = [...document.querySelectorAll(".charts")];
  if (!data.charts.length) return;
  root.classList.add("js");

  const GUTTER = 58, RIGHT = 14, HEIGHT = 168, LANE = 30;
  const charts = [];
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';
  const KINDS = { ok: "--ok", fail: "--bad", unknown: "--unknown", primary: "--primary", replica: "--replica", unreachable: "--unreachable",
    "first-leader": "--primary", "next-leader": "--unknown", "no-known-leader": "--unreachable" };
  const colour = (series, at) => css(KINDS[series.kind] || "--s" + (1 + (at % 6)));
  const laneColour = (kind) => css(KINDS[kind] || "--other");

  const number = (value) => {
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    if (size >= 100 || value === 0) return value.toFixed(0);
    return size >= 10 ? value.toFixed(1) : size >= 1 ? value.toFixed(2) : value.toPrecision(2);
  };
  const shown = (value, unit) => value == null ? "–" : unit === "ratio" ? (100 * value).toFixed(value && value < 0.1 ? 2 : 1) + " %" : number(value);
  const tick = (value, unit) => unit === "ratio" ? +(100 * value).toFixed(2) + " %" : value >= 1000 ? +(value / 1000).toFixed(1) + "k" : +value.toFixed(3) + "";

  // The fault's window, the borders of phases and outages, behind the series. Units are canvas pixels.
  function backdrop(u, chart) {
    const ctx = u.ctx, dpr = devicePixelRatio || 1, box = u.bbox;
    const x = (at) => Math.min(Math.max(u.valToPos(at, "x", true), box.left), box.left + box.width);
    ctx.save();
    for (const window of data.injections) {
      const from = x(window.start), to = x(window.end);
      ctx.fillStyle = css("--fault");
      ctx.fillRect(from, box.top, to - from, box.height);
      ctx.fillStyle = css("--fault-line");
      for (const at of [window.start, window.end])
        if (at > u.scales.x.min && at < u.scales.x.max) ctx.fillRect(x(at) - 0.75 * dpr, box.top, 1.5 * dpr, box.height);
    }
    ctx.font = FONT.replace("12px", 11.5 * dpr + "px");
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    for (const phase of data.phases) {
      const from = x(phase.start), to = x(phase.end);
      if (to - from < 1) continue;
      ctx.fillStyle = css("--grid");
      ctx.fillRect(from, box.top, dpr, box.height);
      if (!chart.phases || ctx.measureText(phase.name).width + 8 * dpr > to - from) continue;
      ctx.fillStyle = css("--axis");
      ctx.fillText(phase.name, from + 5 * dpr, box.top - 16 * dpr);
    }
    if (chart.outages) for (const outage of data.outages) {
      ctx.fillStyle = colour({}, outage.row);  // that of the shard's line
      ctx.fillRect(x(outage.start), box.top + outage.row * 6 * dpr, Math.max(x(outage.end) - x(outage.start), 2 * dpr), 4 * dpr);
    }
    ctx.restore();
  }

  function marks(u, chart) {
    const ctx = u.ctx, dpr = devicePixelRatio || 1, box = u.bbox;
    ctx.save();
    ctx.font = FONT.replace("12px", 11 * dpr + "px");
    ctx.textBaseline = "bottom";
    ctx.textAlign = "right";
    for (const mark of chart.marks || []) {
      const y = u.valToPos(mark.value, "y", true);
      if (y < box.top || y > box.top + box.height) continue;
      ctx.strokeStyle = ctx.fillStyle = css("--axis");
      ctx.setLineDash([5 * dpr, 4 * dpr]);
      ctx.beginPath(); ctx.moveTo(box.left, y); ctx.lineTo(box.left + box.width, y); ctx.stroke();
      ctx.fillText(mark.label, box.left + box.width - 4 * dpr, y - 2 * dpr);
    }
    ctx.restore();
  }

  function lanes(u) {
    const ctx = u.ctx, dpr = devicePixelRatio || 1, box = u.bbox;
    const x = (at) => Math.min(Math.max(u.valToPos(at, "x", true), box.left), box.left + box.width);
    ctx.save();
    ctx.font = FONT.replace("12px", 11.5 * dpr + "px");
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    data.lanes.forEach((lane, at) => {
      const top = box.top + at * LANE * dpr;
      ctx.fillStyle = css("--text");
      ctx.fillText(lane.label, box.left + 2 * dpr, top + 3 * dpr);
      ctx.fillStyle = css("--track");
      ctx.fillRect(box.left, top + 18 * dpr, box.width, 9 * dpr);
      for (const span of lane.spans) {
        ctx.fillStyle = laneColour(span.kind);
        ctx.fillRect(x(span.start), top + 18 * dpr, Math.max(x(span.end) - x(span.start), dpr), 9 * dpr);
      }
    });
    ctx.restore();
  }

  function options(chart, width) {
    const isLanes = chart.id === "roles";
    const top = chart.phases ? 22 : 8;
    const axis = { stroke: () => css("--axis"), grid: { stroke: () => css("--grid"), width: 1 }, ticks: { show: false }, font: FONT };
    return {
      width, height: (isLanes ? data.lanes.length * LANE + 34 : HEIGHT + top),
      padding: [top, RIGHT, 0, 0], legend: { show: false },
      cursor: { sync: { key: "run", scales: ["x", null], setSeries: false }, drag: { x: true, y: false }, y: false, points: { show: !isLanes, size: 7 } },
      scales: {
        x: { time: false, range: (u, min, max) => min <= chart.t[0] && max >= chart.t[chart.t.length - 1] ? [data.start, data.end] : [Math.max(min, data.start), Math.min(max, data.end)] },
        y: isLanes ? { range: [0, 1] } : chart.log ? { distr: 3, range: (u, min, max) => [Math.min(min || 1, 1), Math.max(max || 10, ...(chart.marks || []).map((mark) => mark.value)) * 1.6] }
          : { range: (u, min, max) => [0, Math.max(max * (chart.outages && data.outages.length ? 1.3 : 1.08), chart.floor || 0) || 1] },
      },
      axes: [
        { ...axis, size: 28, gap: 4, space: 60, values: (u, all) => all.map((value) => +value.toFixed(2) + " s") },
        isLanes ? { ...axis, size: GUTTER, values: () => [], grid: { show: false } }
          : { ...axis, size: GUTTER, gap: 5, space: 34, values: (u, all) => all.map((value) => value == null ? "" : tick(value, chart.unit)) },
      ],
      series: [{}, ...chart.series.map((series, at) => ({
        label: series.label, stroke: () => colour(series, at), width: 1.75, spanGaps: false, points: { show: (u, s, i0, i1) => lonely(u, s), filter: alone, size: 5, fill: () => colour(series, at) },
        fill: series.area ? () => colour(series, at) + "22" : undefined,
      }))],
      hooks: {
        drawClear: [(u) => backdrop(u, chart)],
        draw: [(u) => isLanes ? lanes(u) : marks(u, chart)],
        setCursor: [(u) => legend(chart, u)],
      },
    };
  }
  // A value between two gaps has no line: it is shown as a point.
  const single = (values, i) => values[i] != null && values[i - 1] == null && values[i + 1] == null;
  const alone = (u, s) => u.data[s].reduce((found, value, i) => (single(u.data[s], i) && found.push(i), found), []);
  const lonely = (u, s) => u.data[s].some((value, i) => single(u.data[s], i));

  function legend(chart, u) {
    const at = u.cursor.idx;
    chart.values.forEach((node, i) => {
      node.textContent = at == null || u.cursor.left < 0 ? "" : shown(chart.series[i].values[at], chart.unit);
    });
    if (chart.clock) chart.clock.textContent = at == null || u.cursor.left < 0 ? "" : "at " + u.posToVal(u.cursor.left, "x").toFixed(1) + " s";
  }

  const made = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text != null) node.textContent = text;
    return node;
  };

  function key(chart, series, at) {
    const button = made("button", "key");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const swatch = made("span", "swatch line");
    chart.swatches.push([swatch, series, at]);
    const value = made("span", "value");
    chart.values.push(value);
    button.append(swatch, made("span", "", series.label), value);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      chart.plot.setSeries(at + 1, { show: on });
    });
    return button;
  }

  function frame(chart) {
    Object.assign(chart, { values: [], swatches: [] });
    const node = made("div", "chart"), head = made("div", "head"), keys = made("div", "keys");
    const title = made("h3", "", chart.title + " ");
    if (chart.unit) title.append(made("span", "unit", "(" + (chart.unit === "ratio" ? "%" : chart.unit) + ")"));
    if (chart.id === "roles")
      for (const kind of chart.kinds) {
        const entry = made("span", "key"), swatch = made("span", "swatch");
        chart.swatches.push([swatch, { kind }, null]);
        entry.append(swatch, made("span", "", kind));
        keys.append(entry);
      }
    else chart.series.forEach((series, at) => keys.append(key(chart, series, at)));
    if (chart.phases) { chart.clock = made("span", "small muted"); }
    head.append(title, keys);
    if (chart.clock) head.append(chart.clock);
    chart.node = made("div", "plot");
    chart.node.tabIndex = 0;
    chart.node.setAttribute("role", "img");
    chart.node.setAttribute("aria-label", chart.title + ". Left and right arrow keys move the cursor, Escape shows the whole run. The numbers are in the tables below.");
    node.append(head, chart.node);
    holders.find((holder) => holder.dataset.section === chart.section).append(node);
  }

  function paint(chart) {
    for (const [swatch, series, at] of chart.swatches) swatch.style.background = at == null ? laneColour(series.kind) : colour(series, at);
  }

  function draw() {
    for (const chart of charts) {
      paint(chart);
      chart.plot = new uPlot(options(chart, chart.node.clientWidth), [chart.t, ...chart.series.map((series) => series.values)], chart.node);
      chart.node.dataset.drawn = "yes";
    }
  }

  function cursorTo(value) {
    for (const { plot } of charts) plot.setCursor({ left: plot.valToPos(value, "x"), top: 10 });
  }
  function whole() {
    for (const { plot } of charts) plot.setScale("x", { min: data.start, max: data.end });
  }
  let at = null;
  for (const holder of holders) holder.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.target.className !== "plot") return;
    if (event.key === "Escape") { at = null; whole(); return; }
    if (!step) return;
    event.preventDefault();
    at = at == null ? data.start : Math.min(data.end, Math.max(data.start, at + step * (event.shiftKey ? 10 : 1)));
    cursorTo(at);
  });

  for (const chart of data.charts) { charts.push(chart); frame(chart); }
  draw();
  document.getElementById("whole").addEventListener("click", whole);
  const sizes = new ResizeObserver(() => {
    for (const { plot, node } of charts)
      if (node.clientWidth && node.clientWidth !== plot.width) plot.setSize({ width: node.clientWidth, height: plot.height });
  });
  for (const holder of holders) sizes.observe(holder);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const chart of charts) { paint(chart); chart.plot.redraw(); }
  });
  const copy = document.getElementById("copy");
  if (copy) copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById("command").textContent);
    copy.textContent = "copied";
  });
})();
