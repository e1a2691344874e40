// Whose turn it is to be drawn. Plotly draws charts one at a time, and rests in between: the tab has to stay responsive,
// however often data comes. Lines that only got longer cost little and are drawn at once, those of all charts; the
// server sends no more than they allow.

import { apart } from "./apart.js";
import { channel } from "./channel.js";

const IDLE = 2; // a drawing is followed by this many times its own length in which no chart is drawn

export const charts = new Set(); // all line charts of the page
const pending = new Set();
let turn; // the next frame draws
let rest; // a timer: until then Plotly draws nothing
let resting = 0; // when that is over
let cost = 0; // ms that drawing a chart takes, a moving average

// With the next frame, or when it is this chart's turn.
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
