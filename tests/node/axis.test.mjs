// Units of static/axis.js.
import assert from "node:assert/strict";
import test from "node:test";

const { span, ticksOf } = await import("../../static/axis.js");

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

const texts = (range, scale, unit) => ticksOf(range, scale, unit).ticktext;

test("ticks of bytes have a prefix, and of other units Plotly makes them", () => {
  assert.deepEqual(texts([0, 2.5e9], undefined, "bytes"), ["0 B", "500 MB", "1 GB", "1.5 GB", "2 GB", "2.5 GB"]);
  assert.deepEqual(texts([1e9, 1e9 + 6], "zero", "B/s").slice(0, 2), ["1 GB/s", "1.000000001 GB/s"]);
  assert.deepEqual(ticksOf([0, 1], undefined, "°C"), {});
  assert.deepEqual(ticksOf(null, undefined, "bytes"), {});
});

test("ticks of durations are round on a clock", () => {
  assert.deepEqual(texts([0, 0.006], undefined, "s"), ["0 s", "1 ms", "2 ms", "3 ms", "4 ms", "5 ms", "6 ms"]);
  assert.deepEqual(texts([0, 170], undefined, "s"), ["0 s", "30 s", "1 min", "1 min 30 s", "2 min", "2 min 30 s"]);
  assert.deepEqual(texts([0, 170_000], undefined, "ms"), texts([0, 170], undefined, "s").with(0, "0 ms"));
  assert.deepEqual(texts([0, 5], undefined, "h"), ["0 s", "1 h", "2 h", "3 h", "4 h", "5 h"]);
  assert.deepEqual(texts([0, 30], undefined, "d").slice(1, 3), ["5 d", "10 d"]);
});

test("ticks of a logarithmic axis are powers, or even where there is no power", () => {
  assert.deepEqual(texts([2.9, 6.1], "log", "bytes"), ["1 kB", "10 kB", "100 kB", "1 MB"]);
  assert.deepEqual(texts([-3.1, 2.1], "log", "s"), ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "1 min"]);
  assert.ok(texts([3.1, 3.9], "log", "bytes").length > 2);
  assert.ok(texts([-15, 15], "log", "bytes").length <= 9);
});
