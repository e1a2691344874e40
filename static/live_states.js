// Which state each series was in when, as bands over time. components/charts/states.py sends it.

import { addCrosshair, moveCrosshair, removeCrosshair } from "./crosshair.js";
import { define, Element, made, say } from "./element.js";
import { addMarks, placeMarks, removeMarks } from "./event_marks.js";

const HIGH = 24; // px of a band
const STEP = 30; // px from one band to the next
const AXIS = 26; // px below the bands
const COLOURS = [
  "#4c7bd9", "#7a5cc0", "#0f8aa3", "#a07b45", "#cc68a8", "#5c9aa8", "#8a6fd1", "#7d8b93", "#b0763f", "#3f7f93",
];
// Words that people use for states. What they mean to an operator decides the colour.
const WORDS = {
  "#3f9a5a": "run running ok up on open ready active online healthy started working available passing success true",
  "#9aa4a8": "idle off stopped standby closed inactive paused none unknown offline disabled false",
  "#d99a1c": "wait waiting warn warning degraded pending starting stopping maintenance setup blocked slow retry",
  "#cf4a4a": "fault error failed failure down alarm critical broken crashed unhealthy fatal emergency",
};
const MEANT = new Map(Object.entries(WORDS).flatMap(([colour, words]) => words.split(" ").map((word) => [word, colour])));
const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const STEPS = [1, 2, 5, 10, 15, 30].map((n) => n * SECOND)
  .concat([1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), [1, 2, 3, 6, 12].map((n) => n * HOUR), [1, 2, 7, 14, 28].map((n) => n * DAY));
const WIDE = 90; // px from one time on the axis to the next, at least
const BY_NAME = new Intl.Collator("en", { numeric: true });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const SHORT = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

// The colour of each state: what the page says, what the word means, or the next one of the others.
export function coloursOf(names, given) {
  let next = 0;
  return names.map((name) => {
    if (Object.hasOwn(given, name)) return given[name];
    return MEANT.get(name.toLowerCase()) ?? COLOURS[next++ % COLOURS.length];
  });
}

// Of the content: rows by name, each with its bands in order of time.
export function rowsOf(content) {
  const rows = new Map();
  for (const name in content) {
    if (name[0] !== "b") continue;
    const [series, state, start, end] = content[name];
    const key = name.slice(name.indexOf("\n") + 1);
    if (!rows.has(key)) rows.set(key, { key, series, bands: [] });
    rows.get(key).bands.push({ state, start, end: end || content.until });
  }
  const found = [...rows.values()].sort((one, other) => BY_NAME.compare(one.key, other.key));
  for (const row of found) row.bands.sort((one, other) => one.start - other.start);
  return found;
}

// How long each state lasted from `from` to `until`, over all rows: ms by index.
export function totals(rows, from, until) {
  const found = new Map();
  for (const { bands } of rows) {
    for (const { state, start, end } of bands) {
      const length = Math.min(end, until) - Math.max(start, from);
      if (length >= 0) found.set(state, (found.get(state) ?? 0) + length);
    }
  }
  return found;
}

// Times for the axis: round ones of the browser's clock.
export function ticks(from, until, most) {
  const step = STEPS.find((each) => (until - from) / each <= most) ?? STEPS.at(-1);
  const found = [];
  const offset = -new Date(from).getTimezoneOffset() * MINUTE;
  for (let at = Math.ceil((from + offset) / step) * step - offset; at <= until; at += step) found.push(at);
  return { step, at: found };
}

export function lasted(ms) {
  const parts = [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"], [SECOND, "s"]];
  const first = parts.findIndex(([length]) => ms >= length);
  if (first < 0) return `${Math.round(ms)} ms`;
  const [length, unit] = parts[first];
  const [finer, part] = parts[first + 1] ?? [0, ""];
  const rest = finer ? Math.floor((ms % length) / finer) : 0;
  return `${Math.floor(ms / length)} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
}

function isLight(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.3 * red + 0.59 * green + 0.11 * blue > 150;
}

class States extends Element {
  build() {
    this.title = made("p", "lb-states-title");
    this.legend = made("div", "lb-legend");
    this.body = made("div", "lb-states-body");
    this.labels = made("div", "lb-labels");
    this.plot = made("div", "lb-bands");
    this.canvas = made("canvas");
    this.canvas.setAttribute("role", "img");
    this.tip = made("div", "lb-tip");
    this.tip.hidden = true;
    this.plot.append(this.canvas, this.tip);
    this.body.append(this.labels, this.plot);
    this.note = made("div", "lb-note");
    this.root.append(this.title, this.legend, this.body, this.note);
    this.resized = new ResizeObserver(() => this.due());
    this.resized.observe(this.plot);
    this.canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => this.point((this.pointed = { offsetX, offsetY })));
    this.canvas.addEventListener("pointerleave", () => {
      this.pointed = null;
      this.tip.hidden = true;
    });
    this.root.lookback = this; // for the tests
    this.visible = true; // its line is cheap
    addCrosshair(this);
    addMarks(this, { above: true }); // bands hide what is below them
  }

  end() {
    this.resized.disconnect();
    removeCrosshair(this);
    removeMarks(this);
  }

  // Where it has which time, see Chart in live_chart.js.
  timeAxis() {
    const width = this.plot.clientWidth;
    if (!width || !this.rows?.length) return null;
    const span = this.content.until - this.from;
    const [time, at] = [(px) => this.from + (px / width) * span, (ms) => ((ms - this.from) / span) * width];
    return { left: 0, top: 0, width, height: this.rows.length * STEP, time, at };
  }

  draw() {
    const { until, states, series, missing } = this.content;
    const { title, window, still, colors, empty } = this.settings;
    this.rows = rowsOf(this.content);
    const first = Math.min(...this.rows.map(({ bands }) => bands[0].start));
    // The axis of a young stream starts where it does.
    this.from = still ? until - window : Math.max(until - window, Math.min(first, until - SECOND));
    this.colours = coloursOf(states, colors);
    say(this.title, title);
    this.title.hidden = !title;
    this.body.hidden = !this.rows.length;
    const note = this.rows.length ? "" : empty;
    const more = series > this.rows.length ? `The first ${this.rows.length} of ${series.toLocaleString("en")} series. ` : "";
    const gone = missing ? `${missing.toLocaleString("en")} earlier changes are not drawn.` : "";
    say(this.note, note || `${more}${gone}`);
    this.drawLegend();
    this.drawLabels();
    this.drawBands();
    placeMarks(this);
    moveCrosshair();
  }

  drawLegend() {
    const found = totals(this.rows, this.from, this.content.until);
    const all = [...found.values()].reduce((sum, each) => sum + each, 0);
    const shown = [...found].sort((one, other) => one[0] - other[0]);
    while (this.legend.children.length > shown.length) this.legend.lastChild.remove();
    shown.forEach(([state, length], i) => {
      let entry = this.legend.children[i];
      if (!entry) {
        entry = this.legend.appendChild(made("span"));
        entry.append(made("i"), made("b"), made("span"));
      }
      entry.firstChild.style.background = this.colours[state];
      say(entry.children[1], this.content.states[state]);
      say(entry.lastChild, `${((100 * length) / all).toFixed(1)} %`);
      entry.title = lasted(length);
    });
  }

  drawLabels() {
    while (this.labels.children.length > this.rows.length) this.labels.lastChild.remove();
    this.rows.forEach(({ series }, i) => {
      const label = this.labels.children[i] ?? this.labels.appendChild(made("div"));
      say(label, series);
      label.title = series;
    });
    this.labels.hidden = this.rows.length === 1 && !this.rows[0].series;
  }

  drawBands() {
    const [wide, high] = [this.plot.clientWidth, this.rows.length * STEP + AXIS];
    if (!wide || !this.rows.length) return;
    const scale = devicePixelRatio || 1;
    const canvas = this.canvas;
    if (canvas.width !== Math.round(wide * scale) || canvas.height !== Math.round(high * scale)) {
      [canvas.width, canvas.height] = [Math.round(wide * scale), Math.round(high * scale)];
      [canvas.style.width, canvas.style.height] = [`${wide}px`, `${high}px`];
    }
    const pen = canvas.getContext("2d");
    const { color, fontFamily } = getComputedStyle(this.root);
    const { until, states } = this.content;
    const x = (time) => ((time - this.from) / (until - this.from)) * wide;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, wide, high);
    pen.textBaseline = "middle";
    pen.font = `12px ${fontFamily}`;
    const { step, at } = ticks(this.from, until, Math.max(2, wide / WIDE));
    pen.fillStyle = pen.strokeStyle = color;
    for (const time of at) {
      pen.globalAlpha = 0.12;
      pen.fillRect(Math.round(x(time)), 0, 1, high - AXIS);
      pen.globalAlpha = 0.7;
      const text = step >= DAY ? DATE.format(time) : (step >= MINUTE ? SHORT : CLOCK).format(time);
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.max(0, Math.min(wide - 2 * half, x(time) - half)), high - AXIS / 2 + 2);
    }
    pen.globalAlpha = 1;
    this.rows.forEach(({ bands }, row) => {
      const top = row * STEP + (STEP - HIGH) / 2;
      for (const { state, start, end } of bands) {
        if (end <= this.from || start >= until) continue;
        const left = Math.max(0, x(start));
        const width = Math.max(1, Math.min(wide, x(end)) - left);
        pen.fillStyle = this.colours[state];
        pen.fillRect(left, top, width > 3 ? width - 1 : width, HIGH);
        const name = states[state];
        if (width > 24 && pen.measureText(name).width < width - 12) {
          pen.fillStyle = /^#[0-9a-f]{6}$/i.test(this.colours[state]) && !isLight(this.colours[state]) ? "#fff" : "#14191b";
          pen.fillText(name, left + 6, top + HIGH / 2 + 0.5);
        }
      }
    });
    const now = this.rows.map(({ series, bands }) => `${series} ${states[bands.at(-1).state]}`.trim());
    canvas.setAttribute("aria-label", `States over time. At the end: ${now.slice(0, 20).join(", ")}`);
  }

  point({ offsetX, offsetY }) {
    const row = this.rows[Math.floor(offsetY / STEP)];
    const { until, states } = this.content;
    const at = this.from + (offsetX / this.plot.clientWidth) * (until - this.from);
    const band = row?.bands.findLast(({ start, end }) => start <= at && at <= end);
    this.tip.hidden = !band;
    if (!band) return;
    const end = band.end === until ? "now" : CLOCK.format(band.end);
    const day = until - this.from > DAY / 2 ? `${DATE.format(band.start)} ` : "";
    const name = made("b", "", states[band.state]);
    const who = row.series ? ` ${row.series}` : "";
    this.tip.replaceChildren(
      name, `${who}`, made("br"), `${day}${CLOCK.format(band.start)} to ${this.settings.still && end === "now" ? "the end" : end}, ${lasted(band.end - band.start)}`,
    );
    const left = Math.min(offsetX + 12, this.plot.clientWidth - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(0, left)}px, ${Math.floor(offsetY / STEP) * STEP + STEP}px)`;
  }
}

const STYLE = `
.lb-states { padding: 0.2rem 0 0.6rem; }
.lb-states-title { font-weight: 600; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
.lb-legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; font-size: 0.875rem; margin-bottom: 0.4rem; font-variant-numeric: tabular-nums; }
.lb-legend > span { display: inline-flex; align-items: center; gap: 0.4rem; max-width: 100%; }
.lb-legend i { flex: none; width: 0.75rem; height: 0.75rem; border-radius: 0.2rem; }
.lb-legend b { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-legend span span { opacity: 0.7; white-space: nowrap; min-width: 3.4rem; }
.lb-states-body { display: flex; gap: 0.6rem; }
.lb-states-body[hidden] { display: none; }
.lb-labels { flex: none; max-width: min(14rem, 32%); font-size: 0.8125rem; }
.lb-labels > div { height: ${STEP}px; line-height: ${STEP}px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-bands { flex: 1; min-width: 0; position: relative; overflow: clip; overflow-clip-margin: 3rem; }
.lb-bands canvas { display: block; }
.lb-tip { position: absolute; top: 0; left: 0; z-index: 2; pointer-events: none; max-width: 100%; padding: 0.3rem 0.55rem; font-size: 0.8125rem;
  border-radius: 0.35rem; overflow-wrap: anywhere; background: var(--st-background-color, #fff); border: 1px solid var(--st-border-color, #8884);
  box-shadow: 0 2px 8px #0002; }
.lb-tip[hidden] { display: none; }
.lb-states .lb-note { font-size: 0.875rem; opacity: 0.7; padding-top: 0.3rem; }
.lb-states .lb-note:empty { display: none; }`;

define("states", States, STYLE);
