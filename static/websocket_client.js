// The other way: the NATS websocket client in the browser reads the stream itself, and draws the same chart as
// this app does. It also measures: its own bytes and latency, and when the chart beside it was drawn.
import { chartIn } from "./live_chart.js";
import { jetstream, wsconnect } from "./nats.js";

const STREAM = "COMPARISON";
const REDRAW = 1000; // ms, as often as the app's own page
const RECENT = 10000; // ms over which latencies are told
const TRY_AGAIN = 2000; // ms
const PREFIX = "simulated.series-";

// The rows of the look-back, oldest first, in typed arrays that grow when they are full.
class Ring {
  constructor(capacity = 1 << 14) {
    this.make(capacity);
    this.start = this.size = 0;
  }

  make(capacity) {
    this.time = new Float64Array(capacity);
    this.value = new Float64Array(capacity);
    this.series = new Uint8Array(capacity);
  }

  push(time, value, series) {
    const { length } = this.time;
    if (this.size === length) this.grow();
    const at = (this.start + this.size++) % this.time.length;
    this.time[at] = time;
    this.value[at] = value;
    this.series[at] = series;
  }

  grow() {
    const old = { ...this };
    this.make(2 * old.time.length);
    for (const name of ["time", "value", "series"]) {
      this[name].set(old[name].subarray(old.start));
      this[name].set(old[name].subarray(0, old.start), old.time.length - old.start);
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

// Latencies of the last seconds, in ms.
class Latencies {
  constructor() {
    this.lots = [];
  }

  add(at, latencies) {
    if (latencies.length) this.lots.push([at, latencies]);
    while (this.lots.length && this.lots[0][0] < at - RECENT) this.lots.shift();
  }

  told() {
    const all = Float64Array.from(this.lots.flatMap(([, lot]) => lot)).sort();
    const at = (share) => all[Math.min(all.length - 1, Math.floor(share * all.length))];
    return all.length ? [at(0.5), at(0.95)] : null;
  }
}

const clock = () => performance.timeOrigin + performance.now(); // ms since the epoch, by this browser
const appClock = () => clock() + offset; // by the app, whose machine publishes
let trips = []; // [length, offset] of round trips to the app: the shortest tells its clock best
let offset = 0;

async function report(seen) {
  const sent = clock();
  const answer = await post("report", { at: sent, offset, ...seen });
  const came = clock();
  trips = [...trips.slice(-29), [came - sent, answer.now - (sent + came) / 2]];
  offset = trips.reduce((a, b) => (b[0] < a[0] ? b : a))[1];
  return answer;
}

class Client {
  constructor(chart, settings) {
    this.chart = chart;
    this.rows = new Ring();
    this.last = 0; // stream sequence
    this.bytes = 0;
    this.messages = 0;
    this.caughtUp = false;
    this.fresh = []; // times of publishing of what was not drawn yet
    this.arrived = [];
    this.pixel = new Latencies();
    this.browser = new Latencies();
    this.left = []; // [time shown, when drawn] of the chart beside this one
    this.tell("busy", "Connecting");
    this.settle(settings);
  }

  // What is to be drawn: a longer look-back is read anew from where it starts, a shorter one is in memory.
  settle({ look_back, step, start }) {
    const longer = look_back > (this.lookBack ?? Infinity);
    const changed = look_back !== this.lookBack;
    Object.assign(this, { lookBack: look_back, step, start });
    if (!changed) return;
    this.chart.config = { ...this.chart.config, window: look_back };
    this.chart.step = step;
    if (longer) {
      this.rows.clear();
      this.last = 0;
      this.caughtUp = false;
      this.consume();
    }
    this.chart.series.forEach((series) => series.cells.clear());
    this.rows.each((time, value, series) => this.bin(time, value, series));
  }

  async session() {
    const answer = await post("session", { ticket: location.hash.slice(1) });
    this.settle(answer);
    return answer;
  }

  // A connection with the newest token. The one before it is closed when this one delivers, so nothing is missed.
  async connect() {
    const session = await this.session();
    const name = `comparison-${crypto.randomUUID()}`;
    const url = `ws://${location.hostname}:${session.port}${location.pathname}nats`;
    const nc = await wsconnect({
      servers: url,
      name,
      inboxPrefix: session.inbox_prefix,
      reconnectTimeWait: TRY_AGAIN,
      maxReconnectAttempts: 5,
      wsFactory: async (address) => {
        const socket = new WebSocket(address);
        socket.binaryType = "arraybuffer";
        socket.addEventListener("message", ({ data }) => (this.bytes += data.byteLength ?? data.length));
        return { socket, encrypted: address.startsWith("wss:") };
      },
    });
    const before = this.nc;
    Object.assign(this, { nc, name, session, url });
    await this.consume();
    if (before) await before.close();
    nc.closed().then((error) => nc === this.nc && this.lost(error));
  }

  async consume() {
    const { nc, session } = this;
    if (!nc) return;
    const before = this.subscription;
    const js = jetstream(nc, { apiPrefix: session.api_prefix });
    const from = this.last ? this.last + 1 : this.start;
    const consumer = await js.consumers.getPushConsumer(STREAM, {
      deliver_prefix: `${session.inbox_prefix}.${crypto.randomUUID()}`,
      ...(from ? { opt_start_seq: from } : { deliver_policy: "new" }),
    });
    this.subscription = await consumer.consume({ callback: (message) => this.take(message) });
    if (before) before.close();
  }

  lost(error) {
    this.nc = null;
    this.subscription = null;
    this.tell("lost", "Disconnected", error ? String(error.message ?? error) : "");
    setTimeout(() => this.open(), TRY_AGAIN);
  }

  async open() {
    try {
      await this.connect();
    } catch (error) {
      this.lost(error);
    }
  }

  take(message) {
    const { streamSequence, pending, timestampNanos } = message.info;
    if (streamSequence <= this.last) return;
    this.last = streamSequence;
    this.messages++;
    this.pending = pending;
    let row;
    try {
      row = message.json();
    } catch {
      return;
    }
    const series = Number(message.subject.slice(PREFIX.length)) - 1;
    if (!(series >= 0 && series < 256) || !Number.isFinite(row.value)) return;
    const time = Number(timestampNanos) / 1e6; // when the server stored it, as on the other side
    this.rows.push(time, row.value, series);
    this.bin(time, row.value, series);
    if (this.caughtUp) {
      const published = 1000 * row.time;
      this.arrived.push(appClock() - published);
      this.fresh.push(published);
    }
    this.caughtUp ||= pending === 0;
  }

  // The least and the greatest value per pixel column and series.
  bin(time, value, series) {
    const all = this.chart.series;
    while (all.length <= series) all.push({ name: `${PREFIX}${all.length + 1}`, cells: new Map(), sorted: true });
    const { cells } = all[series];
    const at = Math.floor(time / this.step);
    const cell = cells.get(at);
    if (!cell) cells.set(at, [value, value]);
    else if (value < cell[0]) cells.set(at, [value, cell[1]]);
    else if (value > cell[1]) cells.set(at, [cell[0], value]);
  }

  redraw() {
    const { chart } = this;
    const now = appClock();
    const oldest = Math.floor((now - this.lookBack) / this.step);
    this.rows.forget(oldest * this.step);
    for (const { cells } of chart.series) for (const bin of cells.keys()) if (bin < oldest) cells.delete(bin);
    chart.now = now;
    chart.offset = new Date(now).getTimezoneOffset() * 60000;
    chart.draw();
    if (document.hidden) this.fresh = []; // nobody sees a pixel
    else if (!chart.held) {
      const { fresh } = this;
      this.fresh = [];
      afterPaint(() => this.pixel.add(clock(), fresh.map((published) => appClock() - published)));
    }
    this.browser.add(clock(), this.arrived);
    this.arrived = [];
    if (this.nc && this.pending > 1000 && !this.caughtUp) this.tell("busy", "Replaying", `${count(this.pending)} messages to go`);
    else if (this.nc) this.tell("live", "Live", this.url.replace(/\/lookback.*/, ""), `${count(this.rows.size)} rows`);
  }

  // When the chart beside this one was drawn, and up to which time: that is the end of its axis.
  watchLeft() {
    const frame = [...parent.document.querySelectorAll("iframe")].find(({ src }) => src.includes(`chart=${run()}`));
    const plot = frame?.contentDocument?.querySelector(".js-plotly-plot");
    if (!plot?.on || plot === this.watched) return;
    this.watched = plot;
    plot.on("plotly_afterplot", () => {
      const end = plot.layout?.xaxis?.range?.[1];
      const shown = Date.parse(`${String(end).replace(" ", "T")}Z`) + new Date().getTimezoneOffset() * 60000;
      if (!(shown > (this.shown ?? 0))) return;
      this.shown = shown;
      afterPaint((at) => this.left.push([Math.round(shown), at]));
    });
  }

  async report() {
    const left = this.left.splice(0, 20);
    const answer = await report({
      name: this.name ?? null,
      status: this.status,
      bytes: this.bytes,
      left,
      pixel: this.pixel.told(),
      browser: this.browser.told(),
    });
    this.settle(answer);
    if (answer.renew && !this.renewing) {
      this.renewing = true;
      await this.open();
      this.renewing = false;
    }
  }

  tell(mood, word, ...facts) {
    this.status = [word, ...facts].filter(Boolean).join(", ");
    const line = document.getElementById("status");
    line.className = mood;
    line.replaceChildren(...[element("b", word), ...facts.filter(Boolean).map((fact) => element("span", fact))]);
  }
}

const run = () => location.pathname.split("/").at(-2);
const count = (number) => number.toLocaleString("en");

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

// The next frame is on the screen when the task behind it runs.
function afterPaint(then) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => then(clock());
    port2.postMessage(null);
  });
}

async function post(where, body) {
  const answer = await fetch(where, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error((await answer.text()) || `${answer.status}`);
  return answer.json();
}

// Colours and letters of the page around this one.
function dress() {
  const around = parent.document.querySelector(".stApp") ?? parent.document.body;
  const { color, backgroundColor, fontFamily } = parent.getComputedStyle(around);
  const { style } = document.body;
  const soft = color.replace("rgb(", "rgba(").replace(")", ", 0.15)"); // as Plotly reads it
  style.setProperty("--st-text-color", color);
  style.setProperty("--st-background-color", backgroundColor);
  style.setProperty("--st-border-color", soft);
  style.setProperty("--st-border-color-light", soft);
  style.setProperty("--font", fontFamily);
}

function borrowFonts() {
  const faces = [...parent.document.styleSheets].flatMap((sheet) => {
    try {
      return [...sheet.cssRules].filter((rule) => rule instanceof parent.CSSFontFaceRule && !rule.cssText.includes("data:")).map((rule) =>
        rule.cssText.replace(/url\("?([^")]+)"?\)/g, (_, address) => `url("${new URL(address, sheet.href ?? parent.location)}")`));
    } catch {
      return []; // a style sheet from elsewhere
    }
  });
  document.head.append(Object.assign(document.createElement("style"), { textContent: faces.join("\n") }));
}

borrowFonts();
dress();
const { height, ...settings } = await report({ name: null, status: "", bytes: 0, left: [], pixel: null, browser: null });
const chart = await chartIn(document.getElementById("chart"), {
  title: "", unit: "", height, window: settings.look_back, empty: "No numbers yet", gaps: [], plotly: plotlyFile(),
});
const client = new Client(chart, settings);
await client.open();
setInterval(() => {
  dress();
  client.redraw();
  client.watchLeft();
  client.report().catch((error) => client.tell("lost", "Unknown to the app", error.message));
}, REDRAW);

function plotlyFile() {
  return document.body.dataset.plotly.split("/").at(-1);
}
