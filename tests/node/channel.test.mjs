// static/channel.js: when it tries again, and what it does once it is back.
import assert from "node:assert/strict";
import test from "node:test";

const sockets = [];

class Socket {
  static OPEN = 1;
  constructor() {
    this.readyState = 0;
    this.sent = [];
    sockets.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {}
  open() {
    this.readyState = Socket.OPEN;
    this.onopen();
  }
  end(code) {
    this.readyState = 3;
    this.onclose({ code });
  }
}

globalThis.WebSocket = Socket;
globalThis.document = { hidden: false, addEventListener: () => {}, querySelector: () => null };
globalThis.addEventListener = () => {};
const { Channel } = await import("../../static/channel.js");

function opened(t) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  sockets.length = 0;
  return new Channel("ws://here/push");
}

// ms until a socket is opened
function waited(t) {
  const count = sockets.length;
  for (let ms = 0; ms < 60_000; ms += 10) {
    if (sockets.length > count) return ms;
    t.mock.timers.tick(10);
  }
  return Infinity;
}

test("tabs that lose their websockets at once come back one by one", (t) => {
  const channel = opened(t);
  const waits = [];
  for (let tab = 0; tab < 200; tab += 1) {
    channel.use(String(tab));
    sockets.at(-1).end(1012);
    waits.push(waited(t));
  }
  assert.ok(Math.min(...waits) >= 200 && Math.max(...waits) <= 610, `${waits}`);
  const tenths = new Set(waits.map((ms) => Math.floor(ms / 40)));
  assert.ok(tenths.size >= 9, `${[...tenths]}`);
});

test("it tries less and less often, and never gives up", (t) => {
  const channel = opened(t);
  channel.use("ticket");
  let last = 0;
  for (let attempt = 0; attempt < 12; attempt += 1) {
    sockets.at(-1).end(1006);
    last = waited(t);
  }
  assert.ok(last >= 5_000 && last <= 15_010, `${last}`);
});

test("each refusal of the ticket asks the script once, and the next ticket is used at once", (t) => {
  const channel = opened(t);
  let asked = 0;
  channel.use("old", undefined, () => (asked += 1));
  for (let attempt = 0; attempt < 3; attempt += 1) {
    sockets.at(-1).end(4401);
    waited(t);
  }
  assert.equal(asked, 3);
  channel.use("new", undefined, () => (asked += 1));
  sockets.at(-1).open();
  assert.deepEqual(sockets.at(-1).sent, [{ ticket: "new", shown: {}, hidden: false }]);
});

test("an element that says something says it again once the websocket is back", (t) => {
  const channel = opened(t);
  const element = { frame: null, again: 0, resumed: () => channel.say(7, { range: (element.again += 1) }) };
  channel.use("ticket");
  channel.attach(7, element);
  channel.say(7, { range: 0 }); // it is not open yet
  for (let time = 1; time <= 2; time += 1) {
    sockets.at(-1).open();
    sockets.at(-1).onmessage({ data: '{"next": 1, "pace": 0}' });
    assert.deepEqual(sockets.at(-1).sent.slice(1), [{ to: 7, said: { range: time } }]);
    sockets.at(-1).end(1006);
    waited(t);
  }
});

test("each question has its own answer, or an error if none can come", async (t) => {
  const channel = opened(t);
  assert.ok((await channel.question(1, {})).error);
  channel.use("ticket");
  const [socket] = sockets;
  socket.open();
  socket.onmessage({ data: JSON.stringify({ next: 1, pace: 0 }) });
  const [first, second, third, fourth] = [7, 8, 9, 10].map((number) => channel.question(number, { of: number }));
  const asked = socket.sent.filter((message) => "ask" in message);
  assert.deepEqual(asked.map(({ of, said }) => [of, said]), [7, 8, 9, 10].map((of) => [of, { of }]));
  const answer = ({ ask }, said) => socket.onmessage({ data: JSON.stringify({ answer: ask, said }) });
  answer(asked[1], { it: 2 });
  answer(asked[0], { it: 1 });
  answer(asked[0], { it: "once more" });
  assert.deepEqual([await first, await second], [{ it: 1 }, { it: 2 }]);
  t.mock.timers.tick(21_000);
  assert.match((await third).error, /not answered/);
  assert.match((await fourth).error, /not answered/);
  socket.onmessage({ data: JSON.stringify({ next: 2, pace: 0 }) });
  const fifth = channel.question(11, {});
  sockets.at(-1).end(1006);
  assert.ok((await fifth).error);
});

test("a frame that is of no use to an element is not one that it holds", (t) => {
  const channel = opened(t);
  channel.use("ticket");
  const [socket] = sockets;
  socket.open();
  socket.onmessage({ data: JSON.stringify({ next: 1, pace: 0 }) });
  const [useless, used] = [{ apply: () => false }, { apply: () => {} }];
  channel.attach(7, useless);
  channel.attach(8, used);
  const key = (number, more) => 2 * number + more;
  socket.onmessage({ data: Uint8Array.of(1, key(7, 1), 1, 0, key(8, 0), 0).buffer });
  socket.end(1006);
  waited(t);
  sockets.at(-1).open();
  assert.deepEqual(sockets.at(-1).sent[0].shown, { 7: null, 8: 1 });
});

test("an element that fails stops no other, and is reported", (t) => {
  const channel = opened(t);
  const reported = [], got = [];
  globalThis.reportError = (error) => reported.push(error.message);
  channel.use("ticket");
  sockets.at(-1).open();
  const bad = { apply() { throw new Error("apply"); }, resumed() { throw new Error("resumed"); } };
  const good = { apply: (bytes) => void got.push([...bytes]), resumed: () => got.push("resumed") };
  channel.attach(1, bad);
  channel.attach(2, good);
  sockets.at(-1).onmessage({ data: JSON.stringify({ next: 1 }) });
  sockets.at(-1).onmessage({ data: Uint8Array.from([1, 3, 1, 7, 5, 1, 8]).buffer });
  assert.deepEqual(got, ["resumed", [8]]);
  assert.deepEqual(reported, ["resumed", "apply"]);
  assert.deepEqual([bad.frame, good.frame], [null, 1]);
});
