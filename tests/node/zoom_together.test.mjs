// static/zoom_together.js with charts that only note how they are zoomed.
import assert from "node:assert/strict";
import test, { beforeEach } from "node:test";

globalThis.location = { href: "http://app/machines?last=PT1H" };
const reported = [];
globalThis.reportError = (error) => reported.push(error.message);
const { hasOthers, joinZoom, leaveZoom, spreadZoom } = await import("../../static/zoom_together.js");

const made = [];
function chart({ alone = false, compare = false, range = null } = {}) {
  const it = { parent: { isConnected: true }, config: { compare }, alone, range };
  it.zoomTo = (to) => (it.range = to);
  it.zoomedTimes = () => it.range;
  made.push(it);
  joinZoom(it);
  return it;
}
const zoom = (it, range) => {
  it.range = range;
  spreadZoom(it);
};

beforeEach(() => {
  for (const it of made.splice(0)) {
    it.parent.isConnected = false;
    leaveZoom(it);
  }
  globalThis.location.href = "http://app/machines?last=PT1H";
  reported.length = 0;
});

test("a zoom, and its end, is that of all charts", () => {
  const [one, two, three] = [chart(), chart(), chart()];
  zoom(two, [10, 20]);
  assert.deepEqual([one.range, three.range], [[10, 20], [10, 20]]);
  zoom(three, null);
  assert.deepEqual([one.range, two.range], [null, null]);
});

test("a chart that is kept to itself neither gives nor takes", () => {
  const [one, two, alone] = [chart(), chart(), chart({ alone: true })];
  zoom(alone, [1, 2]);
  assert.deepEqual([one.range, two.range], [null, null]);
  zoom(one, [3, 4]);
  assert.deepEqual([two.range, alone.range], [[3, 4], [1, 2]]);
});

test("a comparison takes no part", () => {
  const [one, compared] = [chart(), chart({ compare: true })];
  zoom(one, [1, 2]);
  zoom(compared, [5, 6]);
  assert.deepEqual([one.range, compared.range], [[1, 2], [5, 6]]);
  assert.ok(!hasOthers(one) && !hasOthers(compared));
});

test("a chart that comes later is zoomed, or brings its zoom back", () => {
  const one = chart();
  zoom(one, [1, 2]);
  assert.deepEqual(chart().range, [1, 2]);
  assert.ok(hasOthers(one));
});

test("a zoom that a chart brings is that of the charts after it", () => {
  chart({ range: [7, 8] });
  assert.deepEqual(chart().range, [7, 8]);
});

test("another page, or another look-back, has no zoom yet", () => {
  const one = chart();
  zoom(one, [1, 2]);
  for (const href of ["http://app/orders?last=PT1H", "http://app/machines?last=PT5M", "http://app/machines?from=10:00"]) {
    globalThis.location.href = href;
    assert.equal(chart().range, null, href);
  }
  globalThis.location.href = "http://app/machines?last=PT1H&hidden=a";
  assert.deepEqual(chart().range, [1, 2]);
});

test("the zoom of a chart that is gone is gone", () => {
  const [one, two] = [chart(), chart()];
  zoom(one, [1, 2]);
  one.parent.isConnected = false;
  assert.equal(chart().range, null);
  zoom(two, [3, 4]);
  assert.deepEqual(one.range, [1, 2]);
});

test("a chart that cannot be zoomed stops no other", () => {
  const [one, broken, three] = [chart(), chart(), chart()];
  broken.zoomTo = () => { throw new Error("no axis"); };
  zoom(one, [1, 2]);
  assert.deepEqual(three.range, [1, 2]);
  assert.deepEqual(reported, ["no axis"]);
});
