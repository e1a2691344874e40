// Units of static/live_tail.js and static/levels.js that need no page.
import assert from "node:assert/strict";
import test from "node:test";

globalThis.self = globalThis;
globalThis.document = { createElement: () => ({}) };
const { levelOf } = await import("../../static/levels.js");
const { kept, matches } = await import("../../static/live_tail.js");

test("levels are known in any case, by their short names and by the numbers of syslog", () => {
  const meanings = (...all) => all.map((each) => levelOf(each).meaning);
  assert.deepEqual(meanings("TRACE", "Debug", "info", "NOTICE", "WARN", "warning"), ["trace", "debug", "info", "notice", "warn", "warn"]);
  assert.deepEqual(meanings("ERROR", "err", "Critical", "FATAL", "emerg"), ["error", "error", "critical", "critical", "critical"]);
  assert.deepEqual(meanings("0", "1", "2", "3", "4", "5", "6", "7"), ["critical", "critical", "critical", "error", "warn", "notice", "info", "debug"]);
  assert.deepEqual(["3", " 7 ", "Warning", "<b>", "__proto__", "constructor", "8"].map((each) => levelOf(each).name),
    ["ERROR", "DEBUG", "Warning", "<b>", "__proto__", "constructor", "8"]);
  assert.deepEqual(meanings("__proto__", "constructor", "", "8"), ["", "", "", ""]);
});

test("a browser drops the lines before the oldest, and nothing else", () => {
  const content = { l01: [1, "", "a"], l02: [2, "", "b"], "l02.000001": [2, "", "c"], from: "l02", came: 3 };
  assert.deepEqual(Object.keys(kept(content)), ["l02", "l02.000001", "from", "came"]);
  assert.deepEqual(kept({ l01: [1, "", "a"], from: "m", came: 3 }), { from: "m", came: 3 });
});

test("a search finds texts and levels in any case, and numbers of syslog by their names", () => {
  assert.ok(matches([0, "3", "Disk FULL"], "disk f") && matches([0, "3", "x"], "error"));
  assert.ok(!matches([0, "info", "x"], "error"));
});
