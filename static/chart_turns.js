// Decides which chart is drawn next. Plotly draws one chart at a time and rests in between, so that the tab stays
// responsive however often data arrives. Lines that only got longer cost little: those of all charts are drawn at
// once. The server adapts its pace to the drawing times that the browser reports.

import { apart } from "./apart.js";
import { channel } from "./channel.js";

const IDLE = 2; // after a drawing, no chart is drawn for this many times its duration

export const charts = new Set(); // all line charts of the page
const pending = new Set();
let turn; // a request for the next animation frame
let rest; // a timer: until then Plotly draws nothing
let resting = 0; // when the rest ends, by performance.now()
let cost = 0; // ms that drawing a chart takes, a moving average

// Draw the chart in the next animation frame, or when it is its turn.
export function drawSoon(chart) {
  pending.add(chart);
  turn ??= requestAnimationFrame(next);
}

function next() {
  turn = undefined;
  const draw = (chart, how) => {
    const start = performance.now();
    const drawn = apart(() => chart[how]());
    const took = performance.now() - start;
    if (drawn) pending.delete(chart), (cost += (took - cost) / 8);
    return drawn ? took : 0;
  };
  for (const chart of pending) draw(chart, "extend");
  const [chart] = pending;
  if (chart && performance.now() >= resting) {
    pending.delete(chart);
    resting = performance.now() + IDLE * draw(chart, "draw");
  }
  if (!pending.size) return channel().drawn(Math.min(2000, (1 + IDLE) * cost * Math.max(1, charts.size)));
  rest ??= setTimeout(() => {
    rest = undefined;
    if (pending.size) turn ??= requestAnimationFrame(next);
  }, resting - performance.now());
}

// The chart has left the page.
export function drawNoMore(chart) {
  charts.delete(chart);
  pending.delete(chart);
}

export const isDrawing = () => pending.size > 0;
