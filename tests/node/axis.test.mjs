// Units of static/axis.js.
import assert from "node:assert/strict";
import test from "node:test";

const { span, ticksOf, timeTicks, valueTicks } = await import("../../static/axis.js");
const { columnsOf, lineOf, panelOf } = await import("../../static/panels.js");
const { zoneOf } = await import("../../static/zone.js");
const { short } = await import("../../static/units.js");

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

test("times on an axis are round on the zone's clock, never more than fit", () => {
  for (const name of ["UTC", "Asia/Kolkata", "America/St_Johns"]) {
    const zone = zoneOf(name);
    for (const length of [0.02, 1, 7, 60, 3600, 86_400, 7 * 86_400, 366 * 86_400]) {
      const from = Date.UTC(2026, 10, 29, 3, 17, 41);
      const found = timeTicks(from, from + length * 1000, 8, zone);
      assert.ok(found.length <= 14 && found.every(({ time }) => time >= from && time <= from + length * 1000));
      if (length >= 3600) assert.ok(found.every(({ time }) => (time - zone.offset(time)) % 60_000 === 0));
    }
  }
  const [first] = timeTicks(Date.UTC(2026, 10, 29, 23, 50), Date.UTC(2026, 10, 30, 1, 0), 4, zoneOf("UTC"));
  assert.equal(first.text, "30 Nov");
});

test("ticks of any unit are round and within the axis, also of a logarithmic one", () => {
  assert.deepEqual(valueTicks([0, 10], undefined, "°C", 5).map(({ text }) => text), ["0 °C", "2 °C", "4 °C", "6 °C", "8 °C", "10 °C"]);
  assert.deepEqual(valueTicks([0, 3], "log", "", 5), [0, 1, 2, 3].map((at) => ({ at, text: short(10 ** at) })));
});

test("small multiples have as few rows as fit, as even as can be", () => {
  assert.equal(columnsOf(12, 1700), 6);
  assert.equal(columnsOf(50, 1700), 7);
  assert.equal(columnsOf(3, 360), 1);
  assert.equal(columnsOf(1, 1700), 1);
  assert.deepEqual([panelOf("a b\x1fn"), lineOf("a b\x1fn")], ["a b", "n"]);
});

test("a zone has its own clock, through a change of it; an unknown name is the browser's", () => {
  const zone = zoneOf("Europe/Berlin");
  assert.equal(zone.text(Date.UTC(2026, 9, 25, 0, 30)), "2026-10-25 02:30:00.000");
  assert.equal(zone.text(Date.UTC(2026, 9, 25, 1, 30)), "2026-10-25 02:30:00.000");
  assert.equal(zone.called(Date.UTC(2026, 6, 1)), "Europe/Berlin, GMT+2");
  assert.equal(zoneOf("UTC").called(0), "UTC");
  assert.equal(zoneOf("Nowhere/Land").offset(0), new Date(0).getTimezoneOffset() * 60_000);
});
