// static/reload.js, beside a tab that is on its way elsewhere.
import assert from "node:assert/strict";
import test from "node:test";

const { default: reload } = await import("../../static/reload.js");

function at(now) {
  const went = [];
  globalThis.location = { pathname: "/explore", replace: (to) => went.push(to) };
  globalThis.lookbackLeaving = now;
  return went;
}

test("a tab that stays is loaded again at once, with the word that it was given", () => {
  const went = at(undefined);
  reload({ data: "?signed-out=1" });
  assert.deepEqual(went, ["/explore?signed-out=1"]);
});

test("a tab that is on its way elsewhere is left alone until nothing came of that", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  const went = at(1_000_000);
  reload({ data: "" });
  t.mock.timers.tick(4_900);
  assert.deepEqual(went, []);
  t.mock.timers.tick(200);
  assert.deepEqual(went, ["/explore"]);
});
