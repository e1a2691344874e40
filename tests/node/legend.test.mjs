// Units of static/legend.js and static/pointed_others.js that need no document.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
const { inOrderOf, sortedByValue } = await import("../../static/legend.js");
const { linesOf } = await import("../../static/pointed_others.js");

test("names stand by value, the greatest first; what has none and all others come last", () => {
  const shown = [[0, "b", 1], [1, "37 others", 99], [2, "a", null], [3, "c", -5], [4, "a10", 1], [5, "a2", 1], [6, "late", undefined]];
  assert.deepEqual(sortedByValue(shown, 1).map(([id]) => id), [5, 4, 0, 3, 2, 6, 1]);
  assert.deepEqual(shown[0], [0, "b", 1]); // as it was
  assert.deepEqual(sortedByValue([], null), []);
  assert.deepEqual(sortedByValue([[0, "a", 1e308], [1, "b", 2 ** 53]], null).map(([id]) => id), [0, 1]);
});

test("an order that stands keeps what is known, has new names behind it, and all others at the end", () => {
  assert.deepEqual(inOrderOf(["a", "b", -1], ["b", "new", "a", -1, "newer"], -1), ["a", "b", "new", "newer", -1]);
  assert.deepEqual(inOrderOf([], ["x", "y"], null), ["x", "y"]);
  assert.deepEqual(inOrderOf(["gone", "a"], ["a"], null), ["a"]);
});

test("the least and the greatest of the others have their series, value with unit, and time", () => {
  const clock = (time) => `t${time}`;
  const answer = { count: 2, extremes: [["low", 0.5, 1], ["panel\x1fhigh", 12345678, 2]] };
  assert.deepEqual(linesOf(answer, "V", clock), [
    ["greatest", "panel, high", "12,345,678 V", "at t2"],
    ["least", "low", "0.5 V", "at t1"],
  ]);
  assert.deepEqual(linesOf({ count: 1, extremes: [["a", 3, 1], ["a", 3, 1]] }, "", clock), [["value", "a", "3", "at t1"]]);
  assert.deepEqual(linesOf({ count: 0, extremes: [] }, "", clock), []);
  assert.deepEqual(linesOf({ error: "No" }, "", clock), []);
});
