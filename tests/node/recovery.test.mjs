// static/tab.js reloads the page if Streamlit's front end has given up, and static/streamlit_page.js knows when.
import assert from "node:assert/strict";
import test from "node:test";

const attributes = { "data-test-connection-state": "CONNECTED" };
const changed = [];
const page = Object.assign(new EventTarget(), { hidden: false, querySelector: () => null });
globalThis.document = page;
globalThis.MutationObserver = class {
  constructor(then) { this.then = then; }
  observe(_, { attributeFilter }) { changed.push(...attributeFilter.map(() => this.then)); }
};
globalThis.history = { pushState() {} };
globalThis.addEventListener = page.addEventListener.bind(page);
const reloads = [];
globalThis.location = { href: "http://app/", reload: () => reloads.push(Date.now()) };
const stored = new Map();
globalThis.sessionStorage = { getItem: (name) => stored.get(name) ?? null, setItem: (name, value) => stored.set(name, value) };
const { watch } = await import("../../static/tab.js");
const { connection, gaveUp, isConnected, root } = await import("../../static/streamlit_page.js");

const draw = () => watch({ parentElement: {}, setStateValue() {} })();
function become(state) {
  attributes["data-test-connection-state"] = state;
  for (const then of changed) then();
}

test("without a page there is no state", () => {
  assert.equal(root(), null);
  assert.equal(connection(), undefined);
  assert.ok(!isConnected() && !gaveUp());
  draw();
  assert.equal(changed.length, 0);
});

test("the page is reloaded once if the front end gives up, and not for anything less", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  page.querySelector = () => ({ getAttribute: (name) => attributes[name] ?? null });
  draw();
  draw();
  assert.equal(changed.length, 1);
  for (const state of ["CONNECTING", "DISCONNECTED", "CONNECTED"]) become(state);
  t.mock.timers.tick(60_000);
  assert.deepEqual(reloads, []);
  become("DISCONNECTED_FOREVER");
  become("DISCONNECTED_FOREVER");
  t.mock.timers.tick(60_000);
  assert.equal(reloads.length, 1);
});

test("the next reload is ten seconds later", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: Number(stored.get("lookback-reload")) + 3_000 });
  delete globalThis.lookbackReload; // the page is a new one
  delete globalThis.lookbackRecovery;
  reloads.length = 0;
  draw();
  t.mock.timers.tick(6_999);
  assert.deepEqual(reloads, []);
  t.mock.timers.tick(1);
  assert.equal(reloads.length, 1);
});
