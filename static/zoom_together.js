// A zoom in one time chart applies to all time charts of the page, except those for which the viewer has chosen "Zoom
// only this chart". A comparison takes no part, because a place on its axis stands for several times.

import { apart } from "./apart.js";
import { made } from "./element.js";

export const ALONE_STYLE = `
.lb-alone { display: inline-flex; align-items: center; gap: 4px; cursor: pointer; }
.lb-alone input { margin: 0; accent-color: var(--st-primary-color); }`;

const charts = new Set();
let zoom = null; // { page, by, range }: page and chart where it was made, and its start and end, ms since the epoch

// The page and its clock. A zoom applies only to the page and clock where it was made.
function page() {
  const { pathname, searchParams } = new URL(location.href);
  return JSON.stringify([pathname, ...["last", "from", "to"].map((name) => searchParams.get(name))]);
}

const current = () => (zoom?.page === page() && zoom.by.parent.isConnected ? zoom : null);

const others = (chart) => [...charts].filter((other) => other !== chart && other.parent.isConnected && !other.alone);

// A chart that is added to a zoomed page is zoomed, too. A chart that was zoomed when the viewer left the page restores
// the page's zoom.
export function joinZoom(chart) {
  if (chart.config.compare) return;
  charts.add(chart);
  if (chart.alone) return;
  const range = chart.zoomedTimes();
  const known = current();
  if (known) chart.zoomTo(known.range);
  else if (range) zoom = { page: page(), by: chart, range };
}

export function leaveZoom(chart) {
  charts.delete(chart);
}

// The viewer has zoomed in this chart, or reset it. Applying it to the others reports nothing, so none comes back.
export function spreadZoom(chart) {
  if (chart.alone || !charts.has(chart)) return;
  const range = chart.zoomedTimes();
  zoom = range && { page: page(), by: chart, range };
  for (const other of others(chart)) apart(() => other.zoomTo(range));
}

// True if there are other charts, so that this one can be zoomed by itself.
export function hasOthers(chart) {
  return charts.has(chart) && [...charts].some((other) => other !== chart && other.parent.isConnected);
}

// Zoom this chart only by itself, or with the others again. A zoom stays where it was made: if in this chart, the
// others are reset; if in another, this one is.
function keepAlone(chart, alone) {
  const made = current()?.by === chart;
  chart.alone = alone;
  if (!alone) return chart.zoomTo(current()?.range ?? null);
  if (!made) return chart.zoomTo(null);
  zoom = null;
  for (const other of others(chart)) apart(() => other.zoomTo(null));
  chart.zoomTo(chart.zoomedTimes());
}

// The switch with which a chart is zoomed by itself.
export function aloneSwitch(chart) {
  const [label, box] = [made("label", "lb-alone"), made("input")];
  box.type = "checkbox";
  box.checked = chart.alone;
  box.onchange = () => keepAlone(chart, box.checked);
  label.title = "A zoom is one of all charts of the page. With this, this chart has its own.";
  label.append(box, "Zoom only this chart");
  return label;
}
