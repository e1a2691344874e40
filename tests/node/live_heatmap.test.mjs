// Units of static/live_heatmap.js that need no page.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
globalThis.document = { createElement: () => ({}) };
const { cellsOf, labelled, rgb, shadeOf, shades } = await import("../../static/live_heatmap.js");

test("OKLab is converted as its definition says", () => {
  assert.equal(rgb(1, 0, 0), "#ffffff");
  assert.equal(rgb(0, 0, 0), "#000000");
  assert.equal(rgb(0.62796, 0.22486, 0.12585), "#ff0000");
});

test("shades differ in lightness evenly, so that more is always darker, or lighter", () => {
  const found = shades([[0.3, 0.05, 285], [0.93, 0.14, 120]]);
  const light = found.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)))
    .map(([red, green, blue]) => 0.2126 * red + 0.7152 * green + 0.0722 * blue);
  assert.ok(light.every((each, i) => !i || each > light[i - 1]), String(light));
});

test("one has the first shade, the greatest count the last", () => {
  assert.deepEqual([shadeOf(1, 100), shadeOf(100, 100), shadeOf(1, 1)], [0, 23, 23]);
  assert.ok(shadeOf(10, 100) > 10 && shadeOf(10, 100) < 13);
});

test("cells are those that the axis shows, rows counted from the lowest", () => {
  const content = { first: 10, last: 12, rows: [-2, [0, 1, 2, 3]], c10: [-2, 5], c11: [-1, 1, 0, 2], c12: [0, 3] };
  assert.deepEqual(cellsOf(content, 10, 0, 1000), [[10, 0, 5], [11, 1, 1], [11, 2, 2], [12, 2, 3]]);
  assert.deepEqual(cellsOf(content, 10, 115, 120), [[11, 1, 1], [11, 2, 2]]);
});

test("the axis has round numbers, as many as fit", () => {
  const edges = [...Array(35)].map((_, i) => 30 + 10 * i);
  assert.deepEqual(labelled(edges, false, 8).map((i) => edges[i]), [50, 100, 150, 200, 250, 300, 350]);
  const decades = [...Array(10)].flatMap((_, i) => [1, 2, 5].map((digit) => Number(`${digit}e${i - 3}`)));
  assert.deepEqual(labelled(decades, true, 12).map((i) => decades[i]), [...Array(10)].map((_, i) => Number(`1e${i - 3}`)));
  assert.ok(labelled([1, 1.2, 1.5, 2], true, 8).length === 4);
});
