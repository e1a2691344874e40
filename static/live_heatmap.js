// How the values of a number are distributed, over time. components/charts/heatmap.py sends it.

import { define, made, say } from "./element.js";
import { intervalAxis, shadeGaps } from "./intervals.js";
import { lasted, STYLE, TimeCanvas, times } from "./time_canvas.js";
import { withUnit } from "./units.js";

const HIGH = 240; // px of all rows
const APART = 26; // minimum px between two texts of the axis
const SHADES = 24;
// From few to many, in OKLCH: lightness, chroma, hue. Equal steps look equal; few is near the page's background.
const ENDS = {
  light: [[0.93, 0.035, 195], [0.38, 0.15, 285]],
  dark: [[0.3, 0.05, 285], [0.93, 0.14, 120]],
};

const whole = (number) => number.toLocaleString("en");

// The colours of a scale, as CSS texts.
export function shades(ends) {
  const [from, to] = ends;
  return [...Array(SHADES)].map((_, i) => {
    const [light, chroma, hue] = from.map((value, part) => value + ((to[part] - value) * i) / (SHADES - 1));
    return rgb(light, chroma * Math.cos((hue * Math.PI) / 180), chroma * Math.sin((hue * Math.PI) / 180));
  });
}

// OKLab to sRGB, by its definition; cut to what a screen can show.
export function rgb(light, a, b) {
  const [l, m, s] = [
    light + 0.3963377774 * a + 0.2158037573 * b,
    light - 0.1055613458 * a - 0.0638541728 * b,
    light - 0.0894841775 * a - 1.291485548 * b,
  ].map((root) => root ** 3);
  const parts = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((linear) => {
    const part = Math.min(1, Math.max(0, linear));
    return Math.round(255 * (part <= 0.0031308 ? 12.92 * part : 1.055 * part ** (1 / 2.4) - 0.055));
  });
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

// The shade of a count. Counts differ by orders of magnitude, so equal factors are equal steps.
export function shadeOf(count, most) {
  return most <= 1 ? SHADES - 1 : Math.round((Math.log(count) / Math.log(most)) * (SHADES - 1));
}

// The cells of the content that the axis shows: [interval, row from the lowest, count].
export function cellsOf(content, step, from, to) {
  const found = [];
  const [lowest] = content.rows;
  for (let interval = Math.max(content.first, Math.floor(from / step)); interval <= content.last && interval * step < to; interval++) {
    const column = content[`c${interval}`] ?? [];
    for (let i = 0; i < column.length; i += 2) found.push([interval, column[i] - lowest, column[i + 1]]);
  }
  return found;
}

// The edges that get a text: round ones, as many as fit.
export function labelled(edges, log, fit) {
  const decade = (value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9;
  const all = edges.map((_, i) => i);
  if (log) {
    const decades = all.filter((i) => decade(edges[i]));
    if (decades.length > 1) return every(decades, fit, (_, i) => i);
  }
  const length = edges[1] - edges[0];
  return every(all, fit, log ? (_, i) => i : (i) => Math.round(edges[i] / length));
}

function every(places, fit, number) {
  const each = [1, 2, 4, 5, 10, 20, 50].find((by) => places.length / by <= fit) ?? places.length;
  return places.filter((place, i) => number(place, i) % each === 0);
}

class Heatmap extends TimeCanvas {
  across() { return this.settings.step; }
  down() { return HIGH / (this.content.rows[1].length - 1); }

  paint() {
    const { empty, step, log } = this.settings;
    const { rows, unfit } = this.content;
    const [, edges] = rows;
    const missing = unfit ? `${whole(unfit)} ${unfit === 1 ? "value" : "values"} at or below zero ${unfit === 1 ? "has" : "have"} no place on a logarithmic axis.` : "";
    say(this.note, edges.length ? `${log ? "Logarithmic ranges, " : ""}per ${lasted(step)}${missing && `. ${missing}`}` : missing || empty);
    this.body.hidden = this.legend.hidden = !edges.length;
    [this.from, this.to] = intervalAxis(this.content, step, this.zoom);
    if (edges.length) this.drawCells(edges);
  }

  drawCells(edges) {
    const { step, unit, log } = this.settings;
    const { until } = this.content;
    const pen = this.begin(HIGH);
    if (!pen) return;
    const cells = cellsOf(this.content, step, this.from, this.to);
    const most = Math.max(1, ...cells.map(([, , count]) => count));
    this.colours = shades(isLight(this.color) ? ENDS.dark : ENDS.light); // the text is light where the page is dark
    const row = HIGH / (edges.length - 1);
    const y = (place) => HIGH - place * row;
    const places = labelled(edges, log, HIGH / APART);
    const texts = places.map((place) => withUnit(edges[place], unit));
    this.margin = Math.ceil(Math.max(...texts.map((text) => pen.measureText(text).width))) + 8;
    const { left, width, at } = this.timeAxis();
    places.forEach((place, i) => {
      pen.globalAlpha = 0.12;
      pen.fillRect(left, Math.round(y(place)), width, 1);
      pen.globalAlpha = 0.7;
      pen.fillText(texts[i], left - 8 - pen.measureText(texts[i]).width, Math.min(HIGH - 6, Math.max(7, y(place))));
    });
    this.drawTimes(pen);
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, width, HIGH);
    pen.clip();
    shadeGaps(pen, this, this.content.gaps);
    for (const [interval, place, count] of cells) {
      const [start, end] = [left + at(interval * step), left + at((interval + 1) * step)];
      pen.globalAlpha = (interval + 1) * step > until ? 0.6 : 1; // faded: the interval has not ended
      pen.fillStyle = this.colours[shadeOf(count, most)];
      pen.fillRect(start, y(place + 1), end - start - (end - start > 4 ? 0.5 : 0), row - (row > 6 ? 0.5 : 0));
    }
    pen.restore();
    this.drawScale(most);
    const all = cells.reduce((sum, [, , count]) => sum + count, 0);
    this.canvas.setAttribute("aria-label", `Distribution of ${whole(all)} values per ${lasted(step)}, from ${withUnit(edges[0], unit)} to ${withUnit(edges.at(-1), unit)}`);
  }

  drawScale(most) {
    if (!this.legend.firstChild) this.legend.append(made("span", "", "1"), made("i", "lb-shades"), made("span"));
    const [first, bar, last] = this.legend.children;
    first.hidden = most === 1;
    say(last, `${whole(most)} ${most === 1 ? "value" : "values"}`);
    const gradient = `linear-gradient(to right, ${this.colours.join(", ")})`;
    if (bar.gradient !== gradient) bar.style.background = bar.gradient = gradient;
  }

  tipAt({ offsetX, offsetY }) {
    const { step, unit } = this.settings;
    const { rows, first, last, until } = this.content;
    const [lowest, edges] = rows;
    const interval = Math.floor(this.timeAxis().time(offsetX - this.margin) / step);
    const place = Math.floor(((HIGH - offsetY) / HIGH) * (edges.length - 1));
    if (offsetX < this.margin || interval < first || interval > last || place < 0 || place > edges.length - 2) return null;
    const column = this.content[`c${interval}`] ?? [];
    let [count, all] = [0, 0];
    for (let i = 0; i < column.length; i += 2) {
      all += column[i + 1];
      if (column[i] - lowest === place) count = column[i + 1];
    }
    const range = ` from ${withUnit(edges[place], unit)} to below ${withUnit(edges[place + 1], unit)}`;
    const open = (interval + 1) * step > until ? ", not over" : "";
    return { parts: [made("b", "", whole(count)), range, made("br"), `of ${whole(all)}, ${times(interval * step, (interval + 1) * step)}${open}`] };
  }
}

function isLight(color) {
  const [red, green, blue] = color.match(/[\d.]+/g).map(Number);
  return 0.3 * red + 0.59 * green + 0.11 * blue > 140;
}

const SCALE = `
.lb-heatmap { padding: 0.2rem 0 0.6rem; }
.lb-heatmap .lb-canvas-legend { gap: 0.4rem; align-items: center; opacity: 0.85; }
.lb-heatmap .lb-canvas-legend[hidden], .lb-heatmap .lb-canvas-legend [hidden] { display: none; }
.lb-heatmap .lb-shades { width: 9rem; }`;

define("heatmap", Heatmap, STYLE + SCALE);
