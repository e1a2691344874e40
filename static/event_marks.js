// Marks of events in all time charts of the page: elements below Plotly's drawing, placed from its axes. A comparison
// has none, because a place on its axis stands for several times.

import { apart } from "./apart.js";
import { made, say } from "./element.js";

const NEAR = 8; // px around a mark within which the pointer makes its whole text visible
const WIDEST = 140; // px of a text
const STRIP = 14; // px above a plot, where there is room for texts
const LETTER = 5.8; // approximate px of a letter
const STYLE = `
.lb-marks { position: absolute; overflow: hidden; pointer-events: none; font-size: 0.6875rem; line-height: 1.25; }
.lb-marks i { position: absolute; left: 0; top: 0; height: 100%; border-left: 1px dashed var(--st-primary-color, #0b6e7f); opacity: 0.75; }
.lb-marks span { position: absolute; left: 4px; top: 0; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; font-style: normal;
  color: var(--st-primary-color, #0b6e7f); background: color-mix(in srgb, var(--st-background-color, #fff) 80%, transparent); }
.lb-marks .lb-left span { left: auto; right: 4px; }
.lb-marks .lb-pointed { opacity: 1; z-index: 1; }
.lb-marks .lb-pointed span { background: var(--st-background-color, #fff); }`;

const layers = new Map(); // by chart: its element
const watchers = new Set(); // called when the marks change
const known = new Map(); // by element: [time in ms since the epoch, text], ascending
let all = [];
let due;
let sheet;

// Set the marks of the element `who` of the page; an empty list if it has left.
export function setMarks(who, marks) {
  if (marks.length) known.set(who, marks);
  else known.delete(who);
  all = [...known.values()].flat().sort(([one], [other]) => one - other);
  due ??= requestAnimationFrame(() => {
    due = undefined;
    for (const chart of layers.keys()) apart(() => placeMarks(chart));
    for (const changed of watchers) apart(changed);
  });
}

// Call `changed` when the marks change, for charts that draw marks themselves. Returns a function that ends this.
export function watchMarks(changed) {
  watchers.add(changed);
  return () => watchers.delete(changed);
}

// [time in ms since the epoch, text], ascending.
export const marksBetween = (from, to) => all.filter(([time]) => time >= from && time <= to);

// `above`: the marks cover the chart's drawing instead of lying below it, and their texts stand above its plot.
export function addMarks(chart, { above = false } = {}) {
  if (!sheet) document.head.append((sheet = made("style", "", STYLE)));
  const layer = made("div", "lb-marks");
  layer.strip = above ? STRIP : 0;
  layers.set(chart, layer);
  if (above) chart.plot.append(layer);
  else chart.plot.prepend(layer); // also below Plotly's tip at the pointer
  for (const event of ["plotly_afterplot", "plotly_relayout"]) chart.plot.on?.(event, () => placeMarks(chart));
  chart.plot.addEventListener("pointermove", ({ clientX }) => point(chart, clientX));
  chart.plot.addEventListener("pointerleave", () => point(chart, null));
  placeMarks(chart);
}

export function removeMarks(chart) {
  layers.get(chart)?.remove();
  layers.delete(chart);
}

// The marks of a chart as Plotly draws them, for a picture.
export function pictureOfMarks(chart) {
  const axis = chart.timeAxis();
  const color = getComputedStyle(chart.parent).getPropertyValue("--st-primary-color").trim() || "#0b6e7f";
  return all.filter(([time]) => axis.at(time) >= 0 && axis.at(time) <= axis.width).map(([time, text]) => ({
    type: "line", layer: "below", yref: "paper", y0: 0, y1: 1, x0: chart.local(time), x1: chart.local(time), line: { width: 1, dash: "dash", color },
    label: { text, textposition: "end", textangle: 0, xanchor: "left", yanchor: "top", font: { size: 10, color } },
  }));
}

// The place of each mark's text. `marks`: [px, text], ascending. Returns for each { left, room }: the side of the mark,
// and the px available, which end at the next mark. The last text stands on the left if it has no room on the right;
// the text before it then gets less room.
export function textPlaces(marks, width) {
  const wanted = (text) => Math.min(WIDEST, text.length * LETTER + 8);
  const last = marks.length - 1;
  const places = marks.map(([at], i) => ({ left: false, room: Math.min(WIDEST, (marks[i + 1]?.[0] ?? width) - at - 8) }));
  if (last < 0) return places;
  const [at, text] = marks[last];
  const before = marks[last - 1]?.[0] ?? 0;
  if (width - at < wanted(text) && at - before > wanted(text)) {
    places[last] = { left: true, room: wanted(text) - 8 };
    if (last > 0) places[last - 1].room = Math.min(WIDEST, at - before - wanted(text) - 8);
  }
  return places;
}

// Place the marks of a chart again, because its axis may have moved.
export function placeMarks(chart) {
  const layer = layers.get(chart);
  const axis = layer && chart.timeAxis();
  if (!axis || (!all.length && !layer.firstChild)) return;
  const [top, height] = [axis.top - layer.strip, axis.height + layer.strip];
  Object.assign(layer.style, { left: `${axis.left}px`, top: `${top}px`, width: `${axis.width}px`, height: `${height}px` });
  const marks = all.map(([time, text]) => [axis.at(time), text]).filter(([at]) => at >= 0 && at <= axis.width);
  while (layer.children.length > marks.length) layer.lastChild.remove();
  const places = textPlaces(marks, axis.width);
  marks.forEach(([at, text], i) => {
    const line = layer.children[i] ?? layer.appendChild(made("i"));
    if (!line.firstChild) line.append(made("span"));
    line.at = at;
    line.style.transform = `translateX(${at.toFixed(1)}px)`;
    line.room = places[i].room;
    line.classList.toggle("lb-left", places[i].left);
    say(line.firstChild, text);
    fit(line);
  });
}

function fit(line) {
  const pointed = line.classList.contains("lb-pointed");
  line.firstChild.hidden = !pointed && line.room < 24;
  line.firstChild.style.maxWidth = pointed ? "" : `${Math.round(line.room)}px`;
}

// The mark next to the pointer shows all of its text.
function point(chart, clientX) {
  const layer = layers.get(chart);
  if (!layer?.firstChild) return;
  const { left, width } = layer.getBoundingClientRect();
  let [nearest, least] = [null, clientX === null ? -1 : NEAR];
  for (const line of layer.children) {
    const away = Math.abs(left + line.at - clientX);
    if (away < least) [nearest, least] = [line, away];
  }
  for (const line of layer.children) {
    if (line.classList.contains("lb-pointed") === (line === nearest)) continue;
    line.classList.toggle("lb-pointed", line === nearest);
    if (line === nearest) line.classList.toggle("lb-left", line.at > width / 2);
    fit(line);
  }
}
