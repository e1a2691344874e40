// How many events there were per interval, as stacked bars. components/charts/counts.py sends it.

import { coloursOf } from "./colours.js";
import { define, made, say } from "./element.js";
import { intervalAxis, shadeGaps } from "./intervals.js";
import { lasted, STYLE, TimeCanvas, times } from "./time_canvas.js";

const HIGH = 200; // px of the bars
const TOP = 8; // px above the greatest bar
const TICKS = 4; // approximate maximum on the axis
const OTHERS = "#8b979b";
const MOST_SAID = 12; // series that the tip names

const whole = (number) => number.toLocaleString("en");

// The content's series in stacking order, each with its place in a column of counts.
export function seriesOf(content, by) {
  const found = [];
  for (const name in content) {
    if (name[0] !== "s") continue;
    const [said, count] = content[name];
    found.push({ place: Number(name.slice(1)), name: said ?? (by ? "n/a" : "events"), count });
  }
  found.sort((one, other) => one.place - other.place);
  const colours = coloursOf(found.map(({ name }) => name));
  found.forEach((series, i) => (series.colour = colours[i]));
  const [others, count] = content.others;
  if (others) found.push({ place: -1, name: `${whole(others)} ${others === 1 ? "other" : "others"}`, count, colour: OTHERS });
  return found;
}

// The counts of one interval: `found` for each series, `all` for their sum.
export function countsOf(content, series, interval) {
  const column = content[`c${interval}`];
  const found = series.map(({ place }) => column?.at(place) ?? 0);
  return { found, all: found.reduce((sum, each) => sum + each, 0) };
}

// Whole numbers for an axis from zero up to at least `most`.
export function levels(most) {
  const rough = Math.max(1, most / TICKS);
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].map((times) => times * unit).find((each) => each >= rough * (1 - 1e-9)));
  const count = Math.max(1, Math.ceil(most / step));
  return [...Array(count + 1)].map((_, i) => i * step);
}

class Counts extends TimeCanvas {
  across() { return this.settings.step; }

  paint() {
    const { by, empty, step } = this.settings;
    this.series = seriesOf(this.content, by);
    const sorted = [...this.series].sort((one, other) => other.count - one.count);
    const all = sorted.reduce((sum, { count }) => sum + count, 0);
    say(this.note, all ? `${sorted.length > 1 ? `${whole(all)} events, ` : ""}per ${lasted(step)}` : empty);
    this.body.hidden = !all;
    this.drawLegend(sorted.map(({ colour, name, count }) => ({
      colour, name, text: whole(count), title: `${name}: ${((100 * count) / all).toFixed(1)} %`,
    })));
    [this.from, this.to] = intervalAxis(this.content, step, this.zoom);
    if (all) this.drawBars();
  }

  drawBars() {
    const { step } = this.settings;
    const { first, last, until } = this.content;
    const pen = this.begin(HIGH);
    if (!pen) return;
    const shown = [];
    for (let interval = Math.max(first, Math.floor(this.from / step)); interval <= last && interval * step < this.to; interval++) {
      if (`c${interval}` in this.content) shown.push([interval, countsOf(this.content, this.series, interval)]);
    }
    const marks = levels(Math.max(1, ...shown.map(([, { all }]) => all)));
    const texts = marks.map(whole);
    this.margin = Math.ceil(Math.max(...texts.map((text) => pen.measureText(text).width))) + 8;
    const y = (count) => HIGH - ((HIGH - TOP) * count) / marks.at(-1);
    const { left, width, at } = this.timeAxis();
    marks.forEach((count, i) => {
      pen.globalAlpha = count ? 0.12 : 0.4;
      pen.fillRect(left, Math.round(y(count)), width, 1);
      pen.globalAlpha = 0.7;
      pen.fillText(texts[i], left - 8 - pen.measureText(texts[i]).width, Math.max(7, y(count)));
    });
    this.drawTimes(pen);
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, width, HIGH);
    pen.clip();
    shadeGaps(pen, this, this.content.gaps);
    for (const [interval, { found }] of shown) {
      const [start, end] = [left + at(interval * step), left + at((interval + 1) * step)];
      const wide = end - start > 3 ? end - start - 1 : end - start;
      pen.globalAlpha = (interval + 1) * step > until ? 0.45 : 1; // faded: the interval has not ended
      let below = 0;
      found.forEach((count, i) => {
        if (!count) return;
        pen.fillStyle = this.series[i].colour;
        pen.fillRect(start, y(below + count), wide, y(below) - y(below + count));
        below += count;
      });
    }
    pen.restore();
    const said = this.series.slice(0, 20).map(({ name, count }) => `${name} ${count}`);
    this.canvas.setAttribute("aria-label", `Events per ${lasted(step)}. Altogether: ${said.join(", ")}`);
  }

  tipAt({ offsetX }) {
    const { step } = this.settings;
    const { first, last, until } = this.content;
    const interval = Math.floor(this.timeAxis().time(offsetX - this.margin) / step);
    if (offsetX < this.margin || interval < first || interval > last) return null;
    const { found, all } = countsOf(this.content, this.series, interval);
    const lines = this.series.map((series, i) => ({ ...series, count: found[i] })).filter(({ count }) => count);
    lines.sort((one, other) => other.count - one.count);
    const open = (interval + 1) * step > until;
    const parts = [made("b", "", whole(all)), ` ${times(interval * step, (interval + 1) * step)}${open ? ", not over" : ""}`];
    if (this.series.length > 1) {
      for (const { colour, name, count } of lines.slice(0, MOST_SAID)) {
        const [line, swatch] = [made("div", "lb-counted"), made("i")];
        swatch.style.background = colour;
        line.append(swatch, made("span", "", name), made("b", "", whole(count)));
        parts.push(line);
      }
    }
    return { parts };
  }
}

const COUNTED = `
.lb-counts { padding: 0.2rem 0 0.6rem; }
.lb-counted { display: flex; align-items: center; gap: 0.4rem; }
.lb-counted i { flex: none; width: 0.6rem; height: 0.6rem; border-radius: 0.15rem; }
.lb-counted span { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 18rem; }`;

define("counts", Counts, STYLE + COUNTED);
