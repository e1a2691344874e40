// Units of static/steps.js.
import assert from "node:assert/strict";
import test from "node:test";

const { leave, steps } = await import("../../static/steps.js");

const values = (points) => points.map(([time, value]) => [time, value]);

test("a value holds until the next one, and the newest until the end", () => {
  const points = steps([[500, [2, 2]], [100, [1, 1]]], null, 0, 900);
  assert.deepEqual(values(points), [[100, 1], [499, 1], [500, 2], [900, 2]]);
});

test("of several values in one cell, the newest holds", () => {
  const cell = Object.assign([0, 5], { newest: 1 });
  assert.deepEqual(values(steps([[100, cell]], null, 0, 900)), [[100, 0], [100, 5], [100, 1], [900, 1]]);
  assert.deepEqual(values(steps([[100, [0, 5]]], null, 0, 900)), [[100, 0], [100, 5], [900, 5]]);
});

test("what held before holds from the beginning", () => {
  assert.deepEqual(values(steps([], [7, 7], 50, 900)), [[50, 7], [900, 7]]);
  assert.deepEqual(values(steps([[100, [1, 1]]], [7, 7], 50, 100)), [[50, 7], [99, 7], [100, 1]]);
});

test("nothing holds beyond a null, or beyond the end", () => {
  const points = steps([[300, null], [100, [1, 1]], [400, null], [500, [2, 2]], [950, [3, 3]]], null, 0, 900);
  assert.deepEqual(values(points), [[100, 1], [299, 1], [300, null], [500, 2], [900, 2]]);
  assert.deepEqual(values(steps([[100, null]], [7, 7], 50, 900)), [[50, 7], [99, 7], [100, null]]);
});

test("nothing holds after a cell whose newest is a null", () => {
  const cell = Object.assign([3, 3], { newest: NaN });
  assert.deepEqual(values(steps([[100, cell], [200, [1, 1]]], null, 0, 300)), [[100, 3], [100, null], [200, 1], [300, 1]]);
  const series = { cells: new Map([[1, cell]]), nulls: new Set(), held: { bin: 0, cell: [7, 7] } };
  leave(series, 2);
  assert.equal(series.held, null);
});

test("of the bins that leave, the newest goes on to hold, unless a null follows it", () => {
  const series = { cells: new Map([[1, [1, 1]], [5, [5, 5]], [3, [3, 3]]]), nulls: new Set([2]) };
  leave(series, 1);
  assert.equal(series.held, undefined);
  leave(series, 2);
  assert.deepEqual(series.held, { bin: 1, cell: [1, 1] });
  leave({ ...series, held: series.held }, 2);
  series.cells.delete(1);
  leave(series, 3);
  assert.equal(series.held, null);
  leave(series, 4);
  assert.deepEqual(series.held, { bin: 3, cell: [3, 3] });
});
