// What static/live_sql_box.js offers to complete.
import assert from "node:assert/strict";
import test from "node:test";

const { completions, written } = await import("../../static/live_sql_box.js");

test("names that begin with what is typed come first, then those that contain it", () => {
  const names = ["region", "max", "price_max", "time", "_time"];
  assert.deepEqual(completions("SELECT ma", names).found, ["max", "price_max"]);
  assert.deepEqual(completions("SELECT TI", names).found, ["time", "_time"]);
  assert.deepEqual(completions("max(", names).found, []);
  assert.deepEqual(completions("", names).found, []);
});

test("what is complete is not offered", () => {
  assert.deepEqual(completions("SELECT region", ["region"]).found, []);
});

test("a name that is no plain one is quoted, so that it cannot become SQL", () => {
  assert.equal(written("ms"), "ms");
  assert.equal(written("a b"), '"a b"');
  assert.equal(written('x"; DROP'), '"x""; DROP"');
});
