// static/tab.js beside a document that is hidden and shown.
import assert from "node:assert/strict";
import test from "node:test";

const document = new EventTarget();
document.hidden = false;
document.querySelector = () => null;
globalThis.document = document;
const { watch } = await import("../../static/tab.js");

function turn(hidden) {
  document.hidden = hidden;
  document.dispatchEvent(new Event("visibilitychange"));
}

test("only a change is told, once", () => {
  const told = [];
  const end = watch({ parentElement: {}, setStateValue: (name, value) => told.push([name, value]) });
  assert.deepEqual(told, []);
  turn(true);
  turn(true);
  turn(false);
  assert.deepEqual(told, [["hidden", true], ["hidden", false]]);
  end();
  turn(true);
  assert.equal(told.length, 2);
});

test("a tab that is hidden from the start says so", () => {
  document.hidden = true;
  const told = [];
  watch({ parentElement: {}, setStateValue: (...word) => told.push(word) })();
  assert.deepEqual(told, [["hidden", true]]);
});

test("a tab that is drawn again tells its newest owner", () => {
  document.hidden = false;
  const parentElement = {};
  const first = [], second = [];
  watch({ parentElement, setStateValue: (...word) => first.push(word) });
  const end = watch({ parentElement, setStateValue: (...word) => second.push(word) });
  turn(true);
  assert.deepEqual([first, second], [[], [["hidden", true]]]);
  end();
});
