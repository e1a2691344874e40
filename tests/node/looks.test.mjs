// Colours and dashes of lines, colours of words, and levels of log lines.
import assert from "node:assert/strict";
import test from "node:test";

import { coloursOf } from "../../static/colours.js";
import { levelOf } from "../../static/levels.js";
import { BORDERS, COLOURS, colourOf, dashOf, faded, LENGTHS } from "../../static/line_looks.js";

test("forty lines look different, and each dash can be drawn in a chart, on a canvas and in a legend", () => {
  const looks = Array.from({ length: 40 }, (_, i) => `${colourOf(i)} ${dashOf(i)}`);
  assert.equal(new Set(looks).size, 40);
  assert.equal(`${colourOf(40)} ${dashOf(40)}`, looks[0]);
  const dashes = [...new Set(looks.map((look) => look.split(" ")[1]))];
  assert.deepEqual(Object.keys(LENGTHS), dashes);
  assert.deepEqual(Object.keys(BORDERS), dashes);
  assert.equal(new Set(Object.values(BORDERS)).size, dashes.length);
});

test("earlier periods are fainter, and can be seen", () => {
  const seen = [0, 1, 2, 10, 1000].map(faded);
  assert.equal(seen[0], 1);
  assert.deepEqual(seen, seen.toSorted((a, b) => b - a));
  assert.ok(seen.at(-1) >= 0.3);
});

test("a word has the colour of what it means, whatever its case, and the page's own comes first", () => {
  const [fault, error, running, mine] = coloursOf(["FAULT", "error", "Running", "idle"], { idle: "#123456" });
  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const [red, green] = channels(fault);
  assert.ok(red > green && channels(running)[1] > channels(running)[0]);
  assert.notEqual(fault, error);
  assert.ok(channels(error)[0] < red); // the second with this meaning is darker
  assert.equal(mine, "#123456");
});

test("words without a meaning have different colours, and names of objects' own members are words like others", () => {
  const names = ["a", "b", "c", "constructor", "__proto__", "toString"];
  const found = coloursOf(names);
  assert.equal(new Set(found).size, names.length);
  for (const colour of found) assert.match(colour, /^#[0-9a-f]{6}$/);
  assert.equal(coloursOf([...names, ...COLOURS, ...COLOURS]).length, 26);
});

test("levels are known by the words of syslog and libraries, and by their numbers", () => {
  const cases = {
    WARN: ["warn", "WARN"], " wrn ": ["warn", "wrn"], 4: ["warn", "WARN"], 40: ["warn", "WARN"],
    3: ["error", "ERROR"], 50: ["error", "ERROR"], 0: ["critical", "EMERG"], 60: ["critical", "FATAL"],
    Information: ["info", "Information"], 30: ["info", "INFO"], 7: ["debug", "DEBUG"], 10: ["trace", "TRACE"],
  };
  for (const [text, [meaning, name]] of Object.entries(cases)) assert.deepEqual(levelOf(text), { meaning, name }, text);
});

test("another level has no meaning, and is shown as it is", () => {
  for (const text of ["", "35", "loud", "constructor", "__proto__"]) assert.deepEqual(levelOf(text), { meaning: "", name: text });
});
