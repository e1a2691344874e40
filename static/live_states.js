// The state of each series over time, as bands. components/charts/states.py sends it.

import { coloursOf } from "./colours.js";
import { define, made, say } from "./element.js";
import { shadeGaps } from "./intervals.js";
import { DAY, lasted, SECOND, STYLE, TimeCanvas } from "./time_canvas.js";
import { pageZone } from "./zone.js";

const HIGH = 24; // px of a band
const STEP = 30; // px from one band to the next
const BY_NAME = new Intl.Collator("en", { numeric: true });

// The content's rows by name, each with its bands in order of time.
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

function isLight(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.3 * red + 0.59 * green + 0.11 * blue > 150;
}

class States extends TimeCanvas {
  setUp() {
    this.labels = made("div", "lb-labels");
    this.body.prepend(this.labels);
  }

  paint() {
    const { until, states, series, missing } = this.content;
    const { window, still, colors, empty } = this.settings;
    this.rows = rowsOf(this.content);
    const first = Math.min(...this.rows.map(({ bands }) => bands[0].start));
    // The axis of a young stream begins where the stream begins.
    const whole = still ? until - window : Math.max(until - window, Math.min(first, until - SECOND));
    [this.from, this.to] = this.zoom ?? [whole, until];
    this.colours = coloursOf(states, colors);
    this.body.hidden = !this.rows.length;
    const note = this.rows.length ? "" : empty;
    const more = series > this.rows.length ? `The first ${this.rows.length} of ${series.toLocaleString("en")} series. ` : "";
    const gone = missing ? `${missing.toLocaleString("en")} earlier changes are not drawn.` : "";
    say(this.note, note || `${more}${gone}`);
    const found = totals(this.rows, this.from, this.to);
    const all = [...found.values()].reduce((sum, each) => sum + each, 0);
    this.drawLegend([...found].sort((one, other) => one[0] - other[0]).map(([state, length]) => ({
      colour: this.colours[state], name: states[state], text: `${((100 * length) / (all || 1)).toFixed(1)} %`, title: lasted(length),
    })));
    this.drawLabels();
    this.drawBands();
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
    const pen = this.begin(this.rows.length * STEP);
    if (!pen) return;
    this.drawTimes(pen);
    shadeGaps(pen, this, this.content.gaps);
    const wide = this.plot.clientWidth;
    const { states } = this.content;
    const x = this.timeAxis().at;
    this.rows.forEach(({ bands }, row) => {
      const top = row * STEP + (STEP - HIGH) / 2;
      for (const { state, start, end } of bands) {
        if (end <= this.from || start >= this.to) continue;
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
    this.canvas.setAttribute("aria-label", `States over time. At the end: ${now.slice(0, 20).join(", ")}`);
  }

  tipAt({ offsetX, offsetY }) {
    const row = this.rows[Math.floor(offsetY / STEP)];
    const { until, states } = this.content;
    const at = this.timeAxis().time(offsetX);
    const band = row?.bands.findLast(({ start, end }) => start <= at && at <= end);
    if (!band) return null;
    const zone = pageZone();
    const end = band.end === until ? "now" : zone.clock(band.end);
    const day = this.to - this.from > DAY / 2 ? `${zone.date(band.start)} ` : "";
    const who = row.series ? ` ${row.series}` : "";
    const when = `${day}${zone.clock(band.start)} to ${this.settings.still && end === "now" ? "the end" : end}, ${lasted(band.end - band.start)}`;
    return { parts: [made("b", "", states[band.state]), who, made("br"), when], below: Math.floor(offsetY / STEP) * STEP + STEP };
  }
}

const LABELS = `
.lb-states { padding: 0.2rem 0 0.6rem; }
.lb-labels { flex: none; max-width: min(14rem, 32%); font-size: 0.8125rem; }
.lb-labels > div { height: ${STEP}px; line-height: ${STEP}px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }`;

define("states", States, STYLE + LABELS);
