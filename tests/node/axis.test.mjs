// Units of static/axis.js.
import assert from "node:assert/strict";
import test from "node:test";

const { span } = await import("../../static/axis.js");

const WINDOW = 300_000;

test("without a word of its age, or once it is as old, a stream has the whole look-back, which slides", () => {
  for (const young of [undefined, NaN, 0, 700_000]) assert.deepEqual(span(1_000_000, WINDOW, young), [700_000, 1_000_000]);
});

test("a young stream is seen from its start, in at least three quarters of the axis, and the axis stands still", () => {
  const young = 5_000_000;
  let [lengths, before] = [new Set(), 0];
  for (let age = 0; age < WINDOW; age += 50) {
    const [start, end] = span(young + age, WINDOW, young);
    assert.equal(start, young);
    assert.ok(end >= young + age && end - start <= WINDOW);
    if (age > WINDOW / 60) assert.ok(age / (end - start) > 0.7499);
    assert.ok(end - start >= before, "it never becomes shorter");
    before = end - start;
    lengths.add(before);
  }
  assert.ok(lengths.size < 16, `${lengths.size} lengths in all`);
  assert.equal(before, WINDOW, "so that it slides on from where it stood");
});
