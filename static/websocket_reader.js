// Reads the stream with the NATS websocket client, in a worker, so that drawing does not delay it. It is served
// below the page's own URL, to which its cookie belongs, so its imports are two folders up.
import { jetstream, wsconnect } from "../../nats.js";

const STREAM = "COMPARISON";
const PREFIX = "simulated.series-";
const RECONNECT_AFTER = 1000; // ms

// The rows of the look-back, oldest first, in typed arrays that grow when they are full.
class Ring {
  constructor() {
    this.make(1 << 14);
    this.clear();
  }

  make(capacity) {
    this.time = new Float64Array(capacity);
    this.value = new Float64Array(capacity);
    this.series = new Uint8Array(capacity);
  }

  push(time, value, series) {
    if (this.size === this.time.length) this.grow();
    const at = (this.start + this.size++) % this.time.length;
    this.time[at] = time;
    this.value[at] = value;
    this.series[at] = series;
  }

  grow() {
    const old = { ...this };
    this.make(2 * old.size);
    for (const name of ["time", "value", "series"]) {
      this[name].set(old[name].subarray(old.start));
      this[name].set(old[name].subarray(0, old.start), old.size - old.start);
    }
    this.start = 0;
  }

  forget(before) {
    while (this.size && this.time[this.start] < before) {
      this.start = (this.start + 1) % this.time.length;
      this.size--;
    }
  }

  clear() {
    this.start = this.size = 0;
  }

  each(take) {
    for (let i = 0; i < this.size; i++) {
      const at = (this.start + i) % this.time.length;
      take(this.time[at], this.value[at], this.series[at]);
    }
  }
}

const rows = new Ring();
let series = []; // per series: bin to [min, max, whether the page has it]
let changed = []; // [series, bin, cell] that the page does not have
let whole = true; // whether the page must drop what it has
let settings = {};
let last = 0; // stream sequence
let bytes = 0;
let pending = 0;
let caughtUp = false;
let fresh = []; // publish times of messages the page does not have
let arrived = []; // their delay until they arrived here, ms
let announced = false; // whether the page has been notified of news that it has not requested yet
let offset = 0; // the app's clock minus ours, ms
let connection, subscription;

const clock = () => performance.timeOrigin + performance.now();

// A connection with the newest token. The previous connection is closed once this one delivers, so nothing is missed.
async function open({ url, name, inbox_prefix, api_prefix }) {
  const nc = await wsconnect({
    servers: url,
    name,
    inboxPrefix: inbox_prefix,
    reconnectTimeWait: RECONNECT_AFTER,
    maxReconnectAttempts: 5,
    wsFactory: async (address) => {
      const socket = new WebSocket(address);
      socket.binaryType = "arraybuffer";
      socket.addEventListener("message", ({ data }) => (bytes += data.byteLength ?? data.length));
      return { socket, encrypted: address.startsWith("wss:") };
    },
  });
  const before = connection;
  connection = { nc, inbox_prefix, js: jetstream(nc, { apiPrefix: api_prefix }) };
  await consume();
  await before?.nc.close();
  postMessage({ type: "up", name });
  const error = await nc.closed();
  if (connection?.nc === nc) lost(error);
}

async function consume() {
  if (!connection) return;
  const { js, inbox_prefix } = connection;
  const before = subscription;
  const from = last ? last + 1 : settings.start;
  const consumer = await js.consumers.getPushConsumer(STREAM, {
    deliver_prefix: `${inbox_prefix}.${crypto.randomUUID()}`,
    opt_start_seq: from,
  });
  subscription = await consumer.consume({ callback: take });
  before?.close();
}

function lost(error) {
  connection = subscription = null;
  postMessage({ type: "lost", why: String(error?.message ?? error ?? "") });
}

function take(message) {
  const info = message.info;
  if (info.streamSequence <= last) return;
  last = info.streamSequence;
  pending = info.pending;
  let row;
  try {
    row = message.json();
  } catch {
    return;
  }
  const which = Number(message.subject.slice(PREFIX.length)) - 1;
  if (!(which >= 0 && which < 256) || !Number.isFinite(row.value)) return;
  const time = info.timestampNanos / 1e6; // the server's storage time, as in the app's chart
  rows.push(time, row.value, which);
  bin(time, row.value, which);
  if (caughtUp) {
    const published = 1000 * row.time;
    arrived.push(clock() + offset - published);
    fresh.push(published);
  }
  caughtUp ||= pending === 0;
  if (announced) return;
  announced = true;
  postMessage({ type: "news" });
}

// The least and the greatest value per pixel column and series.
function bin(time, value, which) {
  while (series.length <= which) series.push(new Map());
  const at = Math.floor(time / settings.step);
  let cell = series[which].get(at);
  if (!cell) series[which].set(at, (cell = [value, value, true]));
  else if (value < cell[0]) cell[0] = value;
  else if (value > cell[1]) cell[1] = value;
  else return;
  if (cell[2]) changed.push([which, at, cell]);
  cell[2] = false;
}

// Apply the page's settings. A longer look-back is read again from its start; a shorter one is in memory.
function settle(wanted) {
  const before = settings;
  settings = wanted;
  if (wanted.look_back === before.look_back) return;
  series = [];
  changed = [];
  whole = true;
  if (wanted.look_back > (before.look_back ?? Infinity)) {
    rows.clear();
    last = 0;
    caughtUp = false;
    consume().catch(lost);
  } else rows.each(bin);
}

// Send the page everything that it does not have yet.
function postNews(now) {
  const oldest = Math.floor((now - settings.look_back) / settings.step);
  rows.forget(oldest * settings.step);
  for (const cells of series) {
    for (const at of cells.keys()) {
      if (at >= oldest) break; // bins are in order
      cells.delete(at);
    }
  }
  const cells = {
    which: Uint8Array.from(changed, ([which]) => which),
    bin: Float64Array.from(changed, ([, at]) => at),
    low: Float64Array.from(changed, ([, , cell]) => cell[0]),
    high: Float64Array.from(changed, ([, , cell]) => cell[1]),
  };
  for (const [, , cell] of changed) cell[2] = true;
  const message = { type: "rows", whole, oldest, now, cells, bytes, pending, caughtUp, rows: rows.size, step: settings.step };
  postMessage({ ...message, look_back: settings.look_back, fresh: Float64Array.from(fresh), arrived: Float64Array.from(arrived) });
  announced = false;
  changed = [];
  fresh = [];
  arrived = [];
  whole = false;
}

onmessage = ({ data }) => {
  if (data.type === "open") open(data).catch(lost);
  else if (data.type === "settle") settle(data.settings);
  else {
    offset = data.offset;
    postNews(data.now);
  }
};
