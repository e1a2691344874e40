// Units of static/live_counts.js and static/colours.js that need no page.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
globalThis.document = { createElement: () => ({}) };
const { coloursOf } = await import("../../static/colours.js");
const { intervalAxis } = await import("../../static/intervals.js");
const { countsOf, levels, seriesOf } = await import("../../static/live_counts.js");

const content = { others: [3, 7], s2: ["__proto__", 5], s0: ["ERROR", 2], s1: [null, 1], c10: [1, 0, 5, 7], c12: [1, 1, 0, 0] };

test("series are stacked by place, the others last; rows without a value have a name, too", () => {
  const series = seriesOf(content, true);
  assert.deepEqual(series.map(({ name, count }) => [name, count]), [["ERROR", 2], ["n/a", 1], ["__proto__", 5], ["3 others", 7]]);
  assert.deepEqual(countsOf(content, series, 10), { found: [1, 0, 5, 7], all: 13 });
  assert.deepEqual(countsOf(content, series, 11), { found: [0, 0, 0, 0], all: 0 });
  assert.equal(seriesOf({ others: [0, 0], s0: [null, 3] }, false)[0].name, "events");
});

test("the axis of counts has whole numbers from zero up to the greatest or more", () => {
  for (const most of [1, 2, 3, 4, 7, 99, 1234, 5e6]) {
    const found = levels(most);
    assert.equal(found[0], 0);
    assert.ok(found.at(-1) >= most && found.at(-2) < most && found.length <= 6, `${most}: ${found}`);
    assert.ok(found.every(Number.isInteger));
  }
});

test("the axis has whole intervals; of a young stream it starts with its first one; a zoom is itself", () => {
  assert.deepEqual(intervalAxis({ first: 3, last: 7 }, 10, null), [30, 80]);
  const [from, to] = intervalAxis({ first: 0, last: 99, young: 905 }, 10, null);
  assert.equal(from, 900);
  assert.ok(to >= 1000 && to - from < 1000);
  assert.deepEqual(intervalAxis({ first: 3, last: 7 }, 10, [1, 2]), [1, 2]);
});

test("names that mean the same have shades of one colour", () => {
  const colours = coloursOf(["error", "CRITICAL", "Fatal", "x"]);
  assert.equal(new Set(colours).size, 4);
  assert.ok(colours.every((each) => /^#[0-9a-f]{6}$/.test(each)), String(colours));
});
