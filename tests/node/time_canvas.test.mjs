// Units of static/time_canvas.js that need no document.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
const { keyedPlace } = await import("../../static/time_canvas.js");

const axis = { width: 100, height: 40, time: (px) => 1000 + px * 10, at: (ms) => (ms - 1000) / 10 }; // 1000 to 2000 ms
const of = { axis, margin: 5, by: 100, down: 10, of: [3, 30] };

test("the arrow keys go from interval to interval and from row to row, and not beyond the ends", () => {
  const begin = keyedPlace("ArrowLeft", null, of);
  assert.deepEqual(begin, { time: 1950, offsetY: 25 });
  assert.deepEqual(keyedPlace("ArrowRight", begin, of), begin);
  const left = keyedPlace("ArrowLeft", begin, of);
  assert.deepEqual(left, { time: 1850, offsetY: 25 });
  assert.deepEqual(keyedPlace("ArrowUp", left, of), { time: 1850, offsetY: 15 });
  let top = left;
  for (let i = 0; i < 9; i++) top = keyedPlace("ArrowUp", top, of);
  assert.deepEqual(top, { time: 1850, offsetY: 5 });
  assert.deepEqual(keyedPlace("Home", left, of), { time: 1050, offsetY: 25 });
  assert.deepEqual(keyedPlace("End", keyedPlace("Home", null, of), of), { time: 1950, offsetY: 25 });
});

test("they end where there are intervals, and stay in the picture", () => {
  const some = { ...of, of: [12, 15] };
  assert.equal(keyedPlace("Home", null, some).time, 1250);
  assert.equal(keyedPlace("End", null, some).time, 1550);
  assert.equal(keyedPlace("ArrowRight", { time: 1550, offsetY: 5 }, some).time, 1550);
  const long = { ...of, by: 10_000, of: [0, 0] }; // of which the picture shows a part
  assert.equal(keyedPlace("ArrowLeft", null, long).time, 1999);
});

test("they go on from where the pointer was, and end with Esc; other keys are the page's", () => {
  assert.deepEqual(keyedPlace("ArrowRight", { offsetX: 5 + 31, offsetY: 12 }, of), { time: 1450, offsetY: 15 });
  assert.equal(keyedPlace("Escape", { offsetX: 1, offsetY: 1 }, of), null);
  assert.equal(keyedPlace("Escape", null, of), undefined);
  assert.equal(keyedPlace("r", null, of), undefined);
  assert.equal(keyedPlace("ArrowUp", null, { ...of, down: 0 }), undefined);
});
