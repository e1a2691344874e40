// Units of static/live_chart.js and the files that it is made of, which need no document.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
const { ticks } = await import("../../static/live_chart.js");
const { Reader } = await import("../../static/chart_message.js");
const { behind, escapeMarkup, parsed } = await import("../../static/plotly.js");
const { sharedTokens } = await import("../../static/series_names.js");
const { rough, short } = await import("../../static/units.js");

test("a number of seven bits a byte, lowest first, beyond 2**31 too", () => {
  const encoded = (number) => {
    const bytes = [];
    do {
      bytes.push((number % 128) + (number > 127 ? 128 : 0));
      number = Math.floor(number / 128);
    } while (number);
    return bytes;
  };
  for (const number of [0, 1, 127, 128, 300, 2 ** 31, 2 ** 40 + 5, Number.MAX_SAFE_INTEGER]) {
    const reader = new Reader(Uint8Array.from([...encoded(number), 7]));
    assert.equal(reader.int(), number);
    assert.equal(reader.byte(), 7);
  }
});

test("singles and doubles come out as they were", () => {
  const values = [1.5, -2.25, 0, 1e10];
  const singles = new Uint8Array(16);
  values.forEach((value, i) => {
    const one = new Uint8Array(Float32Array.of(value).buffer);
    for (let k = 0; k < 4; k++) singles[k * values.length + i] = one[k];
  });
  const single = new Reader(singles).floats(values.length, 4);
  const double = new Reader(new Uint8Array(Float64Array.from(values).buffer)).doubles(values.length);
  values.forEach((value, i) => {
    assert.equal(single(i), Math.fround(value));
    assert.equal(double(i), value);
  });
});

test("a unit of letters joins the prefix of a number, others stand apart", () => {
  const units = ["B", "ms", "µs", "%", "1/s", "€", "°C", ""];
  assert.deepEqual(units.map(behind), ["B", "ms", "µs", "\u00a0%", "\u00a01/s", "\u00a0€", "\u00a0°C", ""]);
});

test("whole numbers keep their digits, and ranges five", () => {
  assert.equal(short(12345678), "12,345,678");
  assert.equal(short(0.123456785), "0.12345678");
  assert.equal(short(-9999.4567), "-9,999.4567");
  assert.equal(rough(12.345678), "12.346");
  assert.equal(rough(123456.789), "123,456.789");
});

test("names are data, not markup", () => {
  assert.equal(escapeMarkup('<b>&"</b>'), '&lt;b&gt;&amp;"&lt;/b&gt;');
  assert.equal(escapeMarkup(7), "7");
});

test("leading tokens that all names share distinguish no lines", () => {
  assert.equal(sharedTokens(["a.b.c", "a.b.d"]), 2);
  assert.equal(sharedTokens(["a.b", "a.b.c"]), 1);
  assert.equal(sharedTokens(["a", "b"]), 0);
  assert.equal(sharedTokens(["a.b"]), 0);
  assert.equal(sharedTokens(["a.b", "a.b"]), 1);
});

test("a time of Plotly's is read as if it were UTC", () => {
  assert.equal(parsed("2026-03-29 02:30:00.5"), Date.UTC(2026, 2, 29, 2, 30, 0, 500));
  assert.equal(parsed("2026-03-29"), Date.UTC(2026, 2, 29));
});

test("ticks of a day show the clock, those of weeks the weekday, longer ones the date", () => {
  const last = (length) => ticks(length).at(-1).value;
  assert.equal(last(3600000), "%a");
  assert.equal(last(30 * 86400000), "%d %b");
});
