// A zoom in one time chart is a zoom in all time charts of the page, except those that the viewer keeps to themselves.
// A comparison takes no part: a place on its axis is several times.

import { apart } from "./apart.js";
import { made } from "./element.js";

export const ALONE_STYLE = `
.lb-alone { display: inline-flex; align-items: center; gap: 4px; cursor: pointer; }
.lb-alone input { margin: 0; accent-color: var(--st-primary-color); }`;

const charts = new Set();
let zoom = null; // { page, by, range }: where it was made, and from when to when, ms since the epoch

// The page, and when it looks: another one has no zoom yet.
function page() {
  const { pathname, searchParams } = new URL(location.href);
  return JSON.stringify([pathname, ...["last", "from", "to"].map((name) => searchParams.get(name))]);
}

const current = () => (zoom?.page === page() && zoom.by.parent.isConnected ? zoom : null);

const others = (chart) => [...charts].filter((other) => other !== chart && other.parent.isConnected && !other.alone);

// A chart that comes to a zoomed page is zoomed, too. One that was zoomed when the viewer left the page brings the zoom
// back.
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

// The viewer has zoomed in this chart, or reset it. Applying it to the others reports nothing, so nothing comes back.
export function spreadZoom(chart) {
  if (chart.alone || !charts.has(chart)) return;
  const range = chart.zoomedTimes();
  zoom = range && { page: page(), by: chart, range };
  for (const other of others(chart)) apart(() => other.zoomTo(range));
}

// True if a chart may be kept to itself: there are others.
export function hasOthers(chart) {
  return charts.has(chart) && [...charts].some((other) => other !== chart && other.parent.isConnected);
}

// Keep this chart to itself, or not any more. A zoom stays where it was made: the others go back, or this one does.
function keepAlone(chart, alone) {
  const made = current()?.by === chart;
  chart.alone = alone;
  if (!alone) return chart.zoomTo(current()?.range ?? null);
  if (!made) return chart.zoomTo(null);
  zoom = null;
  for (const other of others(chart)) apart(() => other.zoomTo(null));
  chart.zoomTo(chart.zoomedTimes());
}

// The switch that keeps the zoom of a chart to itself.
export function aloneSwitch(chart) {
  const [label, box] = [made("label", "lb-alone"), made("input")];
  box.type = "checkbox";
  box.checked = chart.alone;
  box.onchange = () => keepAlone(chart, box.checked);
  label.title = "A zoom is one of all charts of the page. With this, this chart has its own.";
  label.append(box, "Zoom only this chart");
  return label;
}
