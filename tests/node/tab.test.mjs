// static/tab.js beside a document that is hidden and shown.
import assert from "node:assert/strict";
import test from "node:test";

const document = new EventTarget();
document.hidden = false;
document.querySelector = () => null;
globalThis.document = document;
globalThis.location = { href: "http://app/explore?field=a" };
const entries = [];
globalThis.history = {
  pushState(_, __, url) { entries.push(url); location.href = new URL(url, location.href).href; },
  replaceState(_, __, url) { entries[entries.length - 1] = url; location.href = new URL(url, location.href).href; },
};
const viewer = new EventTarget();
globalThis.addEventListener = viewer.addEventListener.bind(viewer);
const { watch } = await import("../../static/tab.js");

function turn(hidden) {
  document.hidden = hidden;
  document.dispatchEvent(new Event("visibilitychange"));
}

test("only a change is reported, once", () => {
  const reported = [];
  const end = watch({ parentElement: {}, setStateValue: (name, value) => reported.push([name, value]) });
  assert.deepEqual(reported, []);
  turn(true);
  turn(true);
  turn(false);
  assert.deepEqual(reported, [["hidden", true], ["hidden", false]]);
  end();
  turn(true);
  assert.equal(reported.length, 2);
});

const go = (url) => history.pushState({}, "", url);

test("a choice for all pages comes along, and is no entry of the history by itself", () => {
  watch({ parentElement: {}, setStateValue() {} })();
  watch({ parentElement: {}, setStateValue() {} })();
  viewer.dispatchEvent(new Event("pointerdown"));
  go("/explore?field=a&look-back=PT1M");
  go("/explore?field=a&look-back=PT1M&refresh=2+s");
  go("/explore?refresh=5+s&field=a&look-back=PT1M&last=PT1H&play=10&at=2026-11-30T08:00:00Z");
  assert.deepEqual(entries, ["http://app/explore?refresh=5+s&field=a&look-back=PT1M&last=PT1H&play=10&at=2026-11-30T08:00:00Z"]);
  go("/inside");
  assert.deepEqual(entries.slice(1), ["http://app/inside?refresh=5+s&last=PT1H&play=10&at=2026-11-30T08%3A00%3A00Z"]);
  go("/inside");
  go("/explore?embed=true");
  assert.deepEqual(entries.slice(1), ["http://app/inside", "http://app/explore?embed=true"]);
});

test("only a choice of the viewer is an entry of the history", () => {
  watch({ parentElement: {}, setStateValue() {} })();
  go("/explore");
  entries.length = 0;
  go("/numbers");
  go("/numbers?field=a");
  assert.deepEqual(entries, ["http://app/numbers?field=a"]);
  for (const act of ["pointerdown", "keydown", "click", "change"]) {
    viewer.dispatchEvent(new Event(act));
    go(`/numbers?field=${act}`);
  }
  assert.equal(entries.length, 5);
  entries.splice(1);
  location.href = "http://app/numbers?field=a";
  viewer.dispatchEvent(new Event("popstate"));
  go("/numbers?field=a&calculate=value");
  go("/numbers?field=a&calculate=rate");
  assert.deepEqual(entries, ["http://app/numbers?field=a&calculate=rate"]);
  viewer.dispatchEvent(new Event("keydown"));
  go("/numbers?field=b&calculate=rate");
  assert.equal(entries.length, 2);
});

test("a tab that is hidden from the start says so", () => {
  document.hidden = true;
  const reported = [];
  watch({ parentElement: {}, setStateValue: (...word) => reported.push(word) })();
  assert.deepEqual(reported, [["hidden", true]]);
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
