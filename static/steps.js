// Lines whose values hold until the next one.

const JUST = 1; // ms before a new value, where the pointer still finds the previous one

// The line of a series, as points [time, value, cell] in order of time (ms). Events are [time, cell] in any order; null
// instead of a cell means that no value holds from then on. `before`: a cell whose value holds from `from` on, or null.
// Points end at `end`. A value of null breaks the line. A point's cell is the one at that time, or null.
export function steps(events, before, from, end) {
  const points = [];
  let value = before ? newest(before) : NaN;
  const holds = () => !Number.isNaN(value);
  if (holds()) points.push([from, value, null]);
  for (const [time, cell] of events.sort((one, other) => one[0] - other[0])) {
    if (time > end) break;
    if (holds()) points.push([Math.max(from, time - JUST), value, null]);
    const held = holds();
    value = cell ? newest(cell) : NaN;
    if (cell) {
      points.push([time, cell[0], cell]);
      if (cell[1] !== cell[0]) points.push([time, cell[1], cell]);
      if (holds() && value !== cell[1]) points.push([time, value, null]);
    }
    if (!holds() && (cell || held)) points.push([time, null, null]);
  }
  if (holds() && points.at(-1)[0] < end) points.push([end, value, null]);
  return points;
}

// The value that holds after a cell; NaN if none does.
const newest = (cell) => cell.newest ?? cell[1];

// Set `series.held` to the last cell before the bin `oldest`, whose value continues to hold, and its bin.
export function leave(series, oldest) {
  const { cells, nulls } = series;
  let last = -Infinity;
  for (const bin of cells.keys()) if (bin < oldest && bin > last) last = bin;
  for (const bin of nulls) if (bin < oldest && bin > last) [last, series.held] = [Infinity, null];
  if (last === -Infinity || last === Infinity) return;
  const cell = cells.get(last);
  series.held = Number.isNaN(newest(cell)) ? null : { bin: last, cell };
}
