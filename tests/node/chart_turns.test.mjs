// static/chart_turns.js: whose turn it is to be drawn.
import assert from "node:assert/strict";
import test from "node:test";

const frames = [], reported = [];
globalThis.WebSocket = class {};
globalThis.document = { hidden: false, addEventListener: () => {}, querySelector: () => null };
globalThis.addEventListener = () => {};
globalThis.requestAnimationFrame = (frame) => frames.push(frame);
globalThis.reportError = (error) => reported.push(error.message);
const { drawSoon, isDrawing } = await import("../../static/chart_turns.js");

test("a chart that fails stops no other, is drawn as a whole, and is reported", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const drawn = [];
  const fails = (name) => () => { throw new Error(name); };
  drawSoon({ extend: fails("extend"), draw: () => drawn.push("whole") });
  drawSoon({ extend: fails("extend"), draw: fails("draw") });
  drawSoon({ extend: () => drawn.push("longer"), draw: fails("not this one") });
  for (let i = 0; i < 10 && isDrawing(); i += 1) {
    frames.pop()?.();
    t.mock.timers.tick(1000);
  }
  assert.ok(!isDrawing());
  assert.deepEqual(drawn, ["longer", "whole"]);
  assert.equal(reported.at(-1), "draw");
});
