// The axes of a live chart.

const GROWTH = 4 / 3; // by which the x axis of a young stream grows at once
const LEAST = 60; // part of the look-back with which it begins

// From when to when the x axis shows, ms: the `window` before `now`. If the stream is younger, it shows what there is
// since then, `young`, and stands still while the lines grow into the rest, which is at most a quarter. It is longer
// from time to time, and slides once it is as long as the window.
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

// A function: where a value is on the axis, in the axis's own numbers; NaN or -Infinity for one that has no place.
export const placed = (scale) => (scale === "log" ? Math.log10 : (value) => value);

// True if some of these cells have values without a place on a logarithmic axis.
export function unfit(cells) {
  for (const [low] of cells.values()) if (low <= 0) return true;
  return false;
}
