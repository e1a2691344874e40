// The other side of the comparison: the browser itself reads the stream and draws the same chart as this app. It also
// measures its own bytes and latency, and when the app's chart beside it was drawn.
import { chartIn } from "./live_chart.js";
import { root } from "./streamlit_page.js";

const REPORT = 1000; // ms between two reports to the app
const REST = 2; // after a redraw, the other chart may draw for this many times its duration
const RECENT = 10000; // ms over which latencies are computed
const TRY_AGAIN = 2000; // ms
const PREFIX = "simulated.series-";

const clock = () => performance.timeOrigin + performance.now(); // ms since the epoch, by this browser
const appClock = () => clock() + offset; // by the app's clock, which is also the publisher's
const run = location.pathname.split("/").at(-2);
const count = (number) => number.toLocaleString("en");
let trips = []; // [length, offset] of round trips to the app: the shortest gives its clock most exactly
let offset = 0;

async function post(where, body) {
  const answer = await fetch(where, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw Object.assign(new Error((await answer.text()) || `${answer.status}`), { over: answer.status === 404 });
  return answer.json();
}

async function report(seen) {
  const sent = clock();
  const answer = await post("report", { at: sent, offset, ...seen });
  const came = clock();
  trips = [...trips.slice(-29), [came - sent, answer.now - (sent + came) / 2]];
  offset = trips.reduce((a, b) => (b[0] < a[0] ? b : a))[1];
  return answer;
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

  percentiles() {
    const all = Float64Array.from(this.lots.flatMap(([, lot]) => [...lot])).sort();
    const at = (share) => all[Math.min(all.length - 1, Math.floor(share * all.length))];
    return all.length ? [at(0.5), at(0.95)] : null;
  }
}

class Client {
  constructor(chart, settings) {
    this.chart = chart;
    this.name = null;
    this.bytes = 0;
    this.took = 0; // ms that the last redraw took
    this.fresh = []; // publish times of messages not drawn yet
    this.pixel = new Latencies();
    this.browser = new Latencies();
    this.live = false;
    this.left = []; // [frame, when drawn] of the chart beside this one
    this.drawnAt = -Infinity;
    this.reader = new Worker("reader.js", { type: "module" });
    this.reader.onmessage = ({ data }) => this[data.type](data);
    this.reader.onerror = (error) => this.lost({ why: error.message ?? "The reader could not be loaded" });
    this.showState("busy", "Connecting");
    this.settle(settings);
  }

  settle(settings) {
    this.reader.postMessage({ type: "settle", settings });
  }

  async open() {
    try {
      const session = await post("session", { ticket: location.hash.slice(1) });
      this.settle(session);
      this.where = session.websocket ?? `ws://${location.hostname}:${session.port}`;
      const name = `comparison-${crypto.randomUUID()}`;
      this.reader.postMessage({ type: "open", ...session, name, url: `${this.where}${location.pathname}nats` });
    } catch (error) {
      if (error.over) this.end(error.message);
      else this.lost({ why: error.message });
    }
  }

  // The run is over, for example after a sign-out: remove the chart and read nothing more.
  end(why) {
    this.over = true;
    this.reader.terminate(); // also closes its connection
    this.chart.parent.replaceChildren();
    this.showState("lost", "Over", why);
  }

  up({ name }) {
    this.name = name;
    this.renewing = false;
  }

  lost({ why }) {
    this.renewing = false;
    this.live = false;
    this.showState("lost", "Disconnected", why || this.unreached());
    this.name = null;
    setTimeout(() => this.over || this.open(), TRY_AGAIN);
  }

  // A browser does not say why a websocket could not be opened.
  unreached() {
    return `Cannot open a websocket to ${this.where} from ${location.origin}. This browser cannot reach it, or NATS does ` +
      "not allow this origin. See docs/comparison.md. Retrying.";
  }

  rows({ whole, oldest, now, step, look_back, cells, fresh, arrived, bytes, pending, caughtUp, rows }) {
    const { chart } = this;
    const all = chart.series;
    if (whole) for (const series of all) series.cells.clear();
    cells.which.forEach((which, i) => {
      while (all.length <= which) all.push({ name: `${PREFIX}${all.length + 1}`, cells: new Map(), sorted: true });
      all[which].cells.set(cells.bin[i], [cells.low[i], cells.high[i]]);
    });
    for (const series of all) for (const at of series.cells.keys()) if (at < oldest) series.cells.delete(at);
    chart.config = { ...chart.config, window: look_back };
    Object.assign(chart, { step, now, offset: new Date(now).getTimezoneOffset() * 60000 });
    this.bytes = bytes;
    this.browser.add(clock(), arrived);
    this.fresh = document.hidden ? [] : [...this.fresh, ...fresh]; // a hidden page paints nothing
    const began = clock();
    chart.draw();
    this.drawnAt = clock();
    this.took = this.drawnAt - began;
    if (!chart.held) {
      const published = this.fresh;
      this.fresh = [];
      afterPaint(() => this.pixel.add(clock(), published.map((time) => appClock() - time)));
    }
    this.live = Boolean(this.name) && caughtUp;
    if (!this.name) return;
    if (!caughtUp && pending) this.showState("busy", "Replaying", `${count(pending)} messages to go`);
    else this.showState("live", "Live", this.where, `${count(rows)} rows`);
  }

  // There are messages that the reader has not sent yet.
  news() {
    if (this.asking) return;
    this.asking = true;
    const wait = Math.max(0, this.drawnAt + REST * this.took - clock()); // the chart beside it draws in the same thread
    setTimeout(() => requestAnimationFrame(() => this.redraw()), wait);
  }

  redraw() {
    this.asking = false;
    this.reader.postMessage({ type: "redraw", now: appClock(), offset });
  }

  // When the chart beside this one was drawn, and which frame was its newest.
  watchLeft() {
    const frame = [...parent.document.querySelectorAll("iframe")].find(({ src }) => src.includes(`chart=${run}`));
    const plot = frame?.contentDocument?.querySelector(".js-plotly-plot");
    if (!plot?.on || plot === this.watched) return;
    this.watched = plot;
    plot.on("plotly_afterplot", () => {
      const shown = plot.parentElement.lookback?.frame ?? 0;
      if (!(shown > (this.shown ?? 0))) return;
      this.shown = shown;
      afterPaint((at) => this.left.push([shown, at]));
    });
  }

  async report() {
    const answer = await report({
      name: this.name,
      live: this.live,
      bytes: this.bytes,
      left: this.left.splice(0, 40),
      pixel: this.pixel.percentiles(),
      browser: this.browser.percentiles(),
    });
    this.settle(answer);
    if (answer.renew && this.name && !this.renewing) {
      this.renewing = true;
      await this.open();
    }
  }

  showState(mood, word, ...facts) {
    const line = document.getElementById("status");
    line.className = mood;
    line.replaceChildren(element("b", word), ...facts.filter(Boolean).map((fact) => element("span", fact)));
  }
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

// Calls `then` after the next paint: a task queued in an animation frame runs when that frame is on the screen.
function afterPaint(then) {
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => then(clock());
    port2.postMessage(null);
  });
}

// Colours and letters of the page around this one.
function dress() {
  const around = root(parent.document) ?? parent.document.body;
  const { color, backgroundColor, fontFamily } = parent.getComputedStyle(around);
  const { style } = document.body;
  const soft = color.replace("rgb(", "rgba(").replace(")", ", 0.1)"); // a format that Plotly parses
  style.setProperty("--st-text-color", color);
  style.setProperty("--st-background-color", backgroundColor);
  style.setProperty("--st-border-color", soft);
  style.setProperty("--st-border-color-light", soft);
  style.setProperty("--font", fontFamily);
}

function borrowFonts() {
  const absolute = (rule, sheet) =>
    rule.cssText.replace(/url\("?([^")]+)"?\)/g, (_, address) => `url("${new URL(address, sheet.href ?? parent.location)}")`);
  const faces = [...parent.document.styleSheets].flatMap((sheet) =>
    [...sheet.cssRules]
      .filter((rule) => rule instanceof parent.CSSFontFaceRule && !rule.cssText.includes("data:"))
      .map((rule) => absolute(rule, sheet)));
  document.head.append(Object.assign(document.createElement("style"), { textContent: faces.join("\n") }));
}

borrowFonts();
dress();
const settings = await report({ name: null, live: false, bytes: 0, left: [], pixel: null, browser: null });
const chart = await chartIn(document.getElementById("chart"), {
  title: "", unit: "", height: settings.height, window: settings.look_back, empty: "No numbers yet", gaps: [],
  plotly: document.body.dataset.plotly.split("/").at(-1),
});
const client = new Client(chart, settings);
await client.open();
function tick() {
  if (client.over) return;
  dress();
  if (clock() - client.drawnAt > REPORT) client.news(); // the axis moves on
  client.watchLeft();
  client.report().catch((error) => (error.over ? client.end(error.message) : client.showState("lost", "Unknown to the app", error.message)));
  setTimeout(tick, REPORT);
}
setTimeout(tick, REPORT);
