// The axes of a live chart.

import { inSeconds, scales, withUnit } from "./units.js";

const GROWTH = 4 / 3; // factor of each step in which the x axis of a young stream grows
const LEAST = 60; // the axis begins with the look-back divided by this

// Start and end of the x axis, ms: the `window` before `now`. If the stream began later, at `young`, the axis starts
// there. It then stands still while the lines grow into the empty part on the right, about a quarter of it at most.
// When that is full, the axis grows by a step. Once it is as long as the window, it slides.
export function span(now, window, young) {
  const age = now - young;
  if (!(age < window)) return [now - window, now];
  let length = window;
  while (length / GROWTH >= Math.max(age, window / LEAST)) length /= GROWTH;
  return [young, young + length];
}

// The y axis of a scale: as Plotly chooses ("linear"), from zero ("zero") or logarithmic ("log").
export function valueAxis(scale) {
  if (scale === "log") return { type: "log" };
  return { type: "linear", rangemode: scale === "zero" ? "tozero" : "normal" };
}

// A function from a value to its place in the axis's own numbers; NaN or -Infinity for a value without a place.
export const placed = (scale) => (scale === "log" ? Math.log10 : (value) => value);

// True if some of these cells have values without a place on a logarithmic axis.
export function unfit(cells) {
  for (const [low] of cells.values()) if (low <= 0) return true;
  return false;
}

const LONGER = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400]; // s, between two ticks
const POWERS = [...Array(19)].map((_, i) => 10 ** (i - 18)).concat(10, 60, 600, 3600, 36000, 86400, 864000, 8640000); // s
const TICKS = 6; // approximate maximum

// Plotly's settings for the ticks of a unit that scales; {} for other units. `range`: the axis's ends, in its own
// numbers; null without values.
export function ticksOf(range, scale, unit) {
  if (!range || !scales(unit)) return {};
  const ticks = ticksIn(range, scale, unit, TICKS);
  return { tickmode: "array", tickvals: ticks, ticktext: ticks.map((value) => withUnit(value, unit)) };
}

// Ticks of any unit, at most about `most`: { at, text } with the place in the axis's own numbers.
export function valueTicks(range, scale, unit, most) {
  const place = placed(scale);
  return ticksIn(range, scale, unit, most).map((value) => ({ at: place(value), text: withUnit(value, unit) }))
    .filter(({ at }) => at >= range[0] && at <= range[1]);
}

function ticksIn(range, scale, unit, most) {
  const [low, high] = scale === "log" ? range.map((end) => 10 ** end) : range;
  const second = inSeconds(unit); // null if the unit is no duration
  const values = scale === "log" ? powers(low, high, second, most) : [];
  return values.length < 2 ? evenly(low, high, second, most) : values;
}

const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR; // ms
const FINEST = [1, 2, 5].flatMap((n) => [n, 10 * n, 100 * n]).sort((one, other) => one - other); // ms
const STEPS = FINEST.concat([1, 2, 5, 10, 15, 30].map((n) => n * SECOND))
  .concat([1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), [1, 2, 3, 6, 12].map((n) => n * HOUR), [1, 2, 7, 14, 28].map((n) => n * DAY));

// Round times of a zone's clock from one time to another, ms since the epoch: { time, text }.
export function timeTicks(from, until, most, zone) {
  const step = STEPS.find((each) => (until - from) / each <= most) ?? STEPS.at(-1);
  const found = [];
  const offset = zone.offset(from);
  for (let time = Math.ceil((from - offset) / step) * step + offset; time <= until; time += step) {
    const midnight = (time - offset) % DAY === 0;
    const text = step >= DAY || midnight ? zone.date(time) : step >= MINUTE ? zone.short(time) : zone.clock(time);
    found.push({ time, text: step < SECOND ? `${text}.${String(time % SECOND).padStart(3, "0")}` : text });
  }
  return found;
}

function powers(low, high, second, most) {
  const [first, last] = [low, high].map((end) => Math.floor(Math.log10(end)));
  const all = second ? POWERS.map((power) => power / second) : [...Array(last - first + 1)].map((_, i) => 10 ** (first + i));
  const inside = all.filter((value) => value >= low && value <= high);
  const each = Math.ceil(inside.length / (most + 2));
  return inside.filter((_, i) => i % each === 0).map(clean);
}

function evenly(low, high, second, most) {
  const least = ((high - low) / most) * (second ?? 1);
  const decimal = (over) => {
    const unit = 10 ** Math.floor(Math.log10(over));
    return [1, 2, 5, 10].map((times) => times * unit).find((step) => step >= over * (1 - 1e-9));
  };
  let step = decimal(least);
  if (second && step > 5) step = LONGER.find((each) => each >= least) ?? 86400 * decimal(least / 86400);
  step /= second ?? 1;
  const [first, last] = [Math.ceil(low / step), Math.floor(high / step)];
  return [...Array(Math.max(0, Math.min(100, last - first + 1)))].map((_, i) => clean((first + i) * step));
}

const clean = (value) => Number(value.toPrecision(12));
