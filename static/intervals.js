// Shared by charts of intervals: their axis and gaps. components/charts/intervals.py sends them.

import { span } from "./axis.js";

// Start and end of the axis, ms: whole intervals, or the viewer's zoom.
export function intervalAxis({ first, last, young }, step, zoom) {
  if (zoom) return zoom;
  const [from, to] = [first * step, (last + 1) * step];
  return span(to, to - from, young === undefined ? NaN : Math.floor(young / step) * step);
}

// Missing data is shaded: an empty stretch alone could also mean that nothing happened.
export function shadeGaps(pen, chart, gaps = []) {
  const { left, at } = chart.timeAxis();
  pen.fillStyle = chart.color;
  pen.globalAlpha = 0.12;
  for (const [start, end] of gaps) pen.fillRect(left + at(start), 0, Math.max(1, at(end) - at(start)), chart.high);
  pen.globalAlpha = 1;
}
