"use strict";
// Draws what the page has in its JSON, by uPlot: a drag zooms, a double click shows all, a click on a name hides its line.
const COLOURS = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#db2777", "#65a30d", "#a16207", "#6b7280"];
const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3]];
const short = value => value == null ? "" : Math.abs(value) >= 1e6 ? value.toExponential(1) : Math.abs(value) >= 1e3
  ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : String(Number(value.toPrecision(4)));
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name);

function axes(chart) {
  const own = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 }, font: "11px system-ui, sans-serif" };
  return [{ ...own, label: chart.across, labelSize: 16, size: 28, space: 60, values: (_, ticks) => ticks.map(short) },
          { ...own, label: chart.upwards || undefined, labelSize: 16, size: 58, space: 26, values: (_, ticks) => ticks.map(short) }];
}

function marks(chart) {  // rings about the best points, and names of single ones
  return u => {
    for (const { x, y, name } of chart.marks) {
      const [left, top] = [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
      const { ctx, bbox } = u;
      if (left < bbox.left - 1 || left > bbox.left + bbox.width + 1 || top < bbox.top - 1 || top > bbox.top + bbox.height + 1) continue;
      const size = devicePixelRatio, below = chart.kind === "lines" && top + 22 * size < bbox.top + bbox.height;
      ctx.save();
      ctx.strokeStyle = style("--text");
      ctx.lineWidth = 1.5 * size;
      ctx.font = `${11 * size}px system-ui, sans-serif`;
      ctx.beginPath(); ctx.arc(left, top, 6.5 * size, 0, 7); ctx.stroke();
      ctx.textAlign = "left"; ctx.textBaseline = "alphabetic";
      const wide = ctx.measureText(name).width, from = left > bbox.left + bbox.width / 2 ? left - 10 * size - wide : left + 10 * size;
      const base = below ? top + 18 * size : Math.max(top - 10 * size, bbox.top + 12 * size);
      ctx.fillStyle = style("--back"); ctx.globalAlpha = 0.85;
      ctx.fillRect(from - 3 * size, base - 11 * size, wide + 6 * size, 15 * size);
      ctx.fillStyle = style("--text"); ctx.globalAlpha = 1;
      ctx.fillText(name, from, base);
      ctx.restore();
    }
  };
}

// What a chart's axis spans: shares are within 0 and 1, and below a lowest point there is room for its name.
function span(chart) {
  const end = (pad, soft) => ({ pad, soft, mode: 3 });
  return (_, low, high) => {
    if (low == null) return [null, null];
    if (chart.share) return low === high ? [0, 1] : uPlot.rangeNum(low, high, 0.1, true).map(to => Math.min(Math.max(to, 0), 1));
    return uPlot.rangeNum(low, high, { min: end(chart.kind === "lines" && chart.marks.length ? 0.25 : 0.1, 0), max: end(0.1, 0) });
  };
}

function draw(figure, chart, log) {
  const place = figure.querySelector("div"), tables = chart.lines.map(line => [line.points.map(p => p[0]), line.points.map(p => p[1])]);
  place.replaceChildren();
  const data = tables.length > 1 ? uPlot.join(tables) : tables[0];
  const series = [{ label: chart.across }, ...chart.lines.map(({ name, style: n, points }) => ({
    label: name, stroke: COLOURS[n % COLOURS.length], width: 1.5, dash: DASHES[Math.floor(n / COLOURS.length) % DASHES.length], spanGaps: true,
    points: { show: points.length < 3 || chart.kind === "points", size: 9, fill: COLOURS[n % COLOURS.length] }, value: (_, value) => short(value),
  }))];
  const plot = new uPlot({
    width: figure.clientWidth - 22, height: 230, series, axes: axes(chart), hooks: { draw: [marks(chart)] }, legend: { live: true },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1, ...(!log && { range: span(chart) }) } }, cursor: chart.kind === "points" ? {} : { sync: { key: "step" } },
  }, data, place);
  figure.plot = plot;
}

const charts = JSON.parse(document.getElementById("charts").textContent);
for (const figure of document.querySelectorAll(".charts figure")) {
  const chart = charts[figure.dataset.chart], button = figure.querySelector("button");
  const positive = chart.lines.every(line => line.points.every(p => p[1] > 0));
  button.hidden = !positive;
  button.onclick = () => {
    const log = button.ariaPressed !== "true";
    button.ariaPressed = String(log);
    draw(figure, chart, log);
  };
  draw(figure, chart, false);
}
let timer;
addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => {
  for (const figure of document.querySelectorAll(".charts figure")) figure.plot.setSize({ width: figure.clientWidth - 22, height: 230 });
}, 150); });

// Sorts a table by the column whose head was clicked, as numbers where they are; again: the other way round.
for (const head of document.querySelectorAll("table.sortable th")) head.onclick = () => {
  const table = head.closest("table"), at = [...head.parentNode.children].indexOf(head), way = head.way = -(head.way || -1);
  const key = row => { const text = row.children[at].textContent, n = parseFloat(text.replace(/,/g, "")); return isNaN(n) ? text : n; };
  [...table.rows].slice(1).sort((a, b) => way * (key(a) > key(b) ? 1 : key(a) < key(b) ? -1 : 0)).forEach(row => table.tBodies[0].append(row));
};
