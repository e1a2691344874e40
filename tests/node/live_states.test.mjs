// Units of static/live_states.js that need no page.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
globalThis.document = { createElement: () => ({}) };
const { coloursOf } = await import("../../static/colours.js");
const { rowsOf, totals } = await import("../../static/live_states.js");
const { lasted } = await import("../../static/time_canvas.js");

test("a word that people use has its meaning's colour, the page's own comes first, others are distinguished", () => {
  const colours = coloursOf(["RUN", "fault", "x", "y", "constructor", "__proto__", "IDLE"], { IDLE: "#123456" });
  assert.equal(new Set(colours).size, 7);
  assert.equal(colours[6], "#123456");
  assert.equal(colours[0], coloursOf(["running"], {})[0]);
  assert.ok(colours.every((each) => /^#[0-9a-f]{6}$/.test(each)), String(colours));
});

test("rows are ordered by name, bands by time; an open band ends at the edge", () => {
  const content = {
    until: 100, states: ["a", "b"], series: 2, missing: 0,
    "b2\nm 10": ["m 10", 0, 20, 0], "b5\nm 9": ["m 9", 1, 50, 0], "b1\nm 9": ["m 9", 0, 10, 50],
  };
  assert.deepEqual(rowsOf(content), [
    { key: "m 9", series: "m 9", bands: [{ state: 0, start: 10, end: 50 }, { state: 1, start: 50, end: 100 }] },
    { key: "m 10", series: "m 10", bands: [{ state: 0, start: 20, end: 100 }] },
  ]);
  assert.deepEqual(totals(rowsOf(content), 30, 90), new Map([[0, 20 + 60], [1, 40]]));
});

test("a length is in two units at most", () => {
  assert.deepEqual([999, 1000, 61_000, 3_600_000, 90_061_000].map(lasted), ["999 ms", "1 s", "1 min 1 s", "1 h", "1 d 1 h"]);
});
