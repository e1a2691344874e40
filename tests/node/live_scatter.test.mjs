// Units of static/live_scatter.js that need no page.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
globalThis.document = { createElement: () => ({}) };
const { around, Scatter } = await import("../../static/live_scatter.js");

test("an axis ends at round numbers around the values, and rarely elsewhere", () => {
  for (const [low, high] of [[0, 1], [-3, 4], [1e9, 1e9 + 7], [-1e-9, 2e-9], [5, 5], [-5, -5], [0, 0], [1e30, 2e38]]) {
    const [start, end] = around(low, high);
    assert.ok(start < low && high < end, `${low} ${high}`);
    assert.ok(end - start <= 1.5 * (high - low || Math.abs(high) || 2), `${low} ${high}: ${start} ${end}`);
  }
  assert.deepEqual(around(0, 100), around(0, 100.4));
  assert.deepEqual(around(Infinity, -Infinity), [0, 1]);
});

test("content without points has empty columns, and points come and leave", () => {
  const merged = (known, news) => Scatter.prototype.merged.call(null, known, news);
  const empty = merged({}, { first: 0, groups: [] }); // empty columns are not sent
  assert.deepEqual([empty.x, empty.y, empty.of], [[], [], []]);
  const some = merged(empty, { x: [1, 2], y: [3, 4], of: [0, 0], groups: [[0, "a"]] });
  assert.deepEqual([some.x, some.y, some.of], [[1, 2], [3, 4], [0, 0]]);
  const left = merged(some, { first: 1 });
  assert.deepEqual([left.x, left.y, left.of], [[2], [4], [0]]);
});
