// A line at the time that the viewer points at, in all time charts of the page. It is an element above each plot, which
// moves without Plotly. A comparison has none, because a place on its axis stands for several times.

import { made } from "./element.js";

const STYLE = `
.lb-crosshair { position: absolute; left: 0; width: 1px; z-index: 1; pointer-events: none; will-change: transform;
  background: var(--st-text-color, currentColor); opacity: 0.45; }
.lb-crosshair[hidden] { display: none; }`;

const lines = new Map(); // by chart
let pointer = null; // { chart, x, y }, in px of the browser's window; or { chart, time }, in ms since the epoch
let due;
let sheet;

export function addCrosshair(chart) {
  if (!sheet) document.head.append((sheet = made("style", "", STYLE)));
  const line = made("div", "lb-crosshair");
  line.hidden = true;
  chart.plot.style.position = "relative";
  chart.plot.append(line);
  lines.set(chart, line);
  chart.plot.addEventListener("pointermove", ({ clientX: x, clientY: y }) => {
    pointer = { chart, x, y };
    moveCrosshair();
  });
  for (const end of ["pointerleave", "pointercancel"]) chart.plot.addEventListener(end, () => leave(chart));
}

export function removeCrosshair(chart) {
  lines.get(chart)?.remove();
  lines.delete(chart);
  leave(chart);
}

// The viewer points with the keyboard at a time of a chart, ms since the epoch; null: no longer.
export function pointAtTime(chart, time) {
  if (time === null) return leave(chart);
  pointer = { chart, time };
  moveCrosshair();
}

// The pointer, or an axis, has moved.
export function moveCrosshair() {
  if (pointer) due ??= requestAnimationFrame(place);
}

function leave(chart) {
  if (pointer?.chart !== chart) return;
  pointer = null;
  due ??= requestAnimationFrame(place);
}

function place() {
  due = undefined;
  const time = pointer && pointedTime();
  for (const [chart, line] of lines) {
    const axis = time === null || !chart.visible ? null : chart.timeAxis();
    const at = axis && axis.at(time);
    line.hidden = !axis || at < 0 || at > axis.width;
    chart.pointAt?.(line.hidden ? null : time, pointer?.chart === chart);
    if (line.hidden) continue;
    line.style.top = `${axis.top}px`;
    line.style.height = `${axis.height}px`;
    line.style.transform = `translateX(${(axis.left + at).toFixed(1)}px)`;
  }
}

// The time at the pointer, ms since the epoch; null outside the axes.
function pointedTime() {
  const { chart, x, y, time } = pointer;
  if (time !== undefined) return time;
  const axis = chart.timeAxis();
  if (!axis) return null;
  const { left, top } = chart.plot.getBoundingClientRect();
  const [across, down] = [x - left - axis.left, y - top - axis.top];
  return across < 0 || across > axis.width || down < 0 || down > axis.height ? null : axis.time(across);
}
