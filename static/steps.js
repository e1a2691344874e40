// Lines whose values hold until the next one.

const JUST = 1; // ms before a value comes, at which the pointer still finds the one before

// What a series does, as points [time, value, cell] in order of time (ms). Events are [time, cell] in any order, with
// null in place of a cell where nothing is known from then on. `before`: a cell that holds `from` on, null for none.
// Points end at `end`. A value of null breaks the line; the cell is what the value was of.
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

// The value that holds after a cell, NaN for none.
const newest = (cell) => cell.newest ?? cell[1];

// Note in `series` what its bins before `oldest` leave behind: the cell that continues to hold, with its bin.
export function leave(series, oldest) {
  const { cells, nulls } = series;
  let last = -Infinity;
  for (const bin of cells.keys()) if (bin < oldest && bin > last) last = bin;
  for (const bin of nulls) if (bin < oldest && bin > last) [last, series.held] = [Infinity, null];
  if (last === -Infinity || last === Infinity) return;
  const cell = cells.get(last);
  series.held = Number.isNaN(newest(cell)) ? null : { bin: last, cell };
}
