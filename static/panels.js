// Small multiples: for each value of a column a small chart, on a canvas of its own, with the axes in common. What is
// drawn comes from a chart (live_chart.js), which holds the series. Plotly works out all axes of a figure for each
// drawing, and a canvas only what has changed: the panels with new values, and of those what is on the screen.

import { placed, timeTicks, valueTicks } from "./axis.js";
import { NEAR, NEAR_FINGER, SECOND_CLICK, showBehind } from "./behind.js";
import { addCrosshair, moveCrosshair, removeCrosshair } from "./crosshair.js";
import { made, say } from "./element.js";
import { marksBetween, watchMarks } from "./event_marks.js";
import { BY_NAME } from "./series_names.js";
import { withUnit } from "./units.js";

export const BETWEEN = "\x1f"; // in the name of a series: what is before it is the panel's name
const MOST = 50; // panels
const NARROWEST = 210; // px of a panel
const [ACROSS, DOWN] = [14, 10]; // px between two panels
const [WIDE, HIGH] = [70, 34]; // px from one label of an axis to the next, at least
const DIGITS = 4; // of the numbers beside the titles; the pointed panel has them all
const DRAG = 5; // px from which on a press is a drag
const MISSING = "rgba(224, 122, 48, 0.18)";
const ALERT = "#d6453d";
const DASHES = { solid: [], dash: [6, 4], dot: [2, 3], dashdot: [6, 3, 2, 3] };

export const PANEL_STYLE = `
.lb-panels { position: relative; display: grid; gap: ${DOWN}px ${ACROSS}px; padding: 0 8px 22px 0; box-sizing: border-box; }
.lb-panel { position: relative; min-width: 0; }
.lb-panel header { display: flex; gap: 10px; height: 18px; line-height: 18px; font-size: 0.75rem; white-space: nowrap; }
.lb-panel b { flex: none; font-weight: 600; overflow: hidden; text-overflow: ellipsis; max-width: 62%; }
.lb-panel header span { margin-left: auto; overflow: hidden; text-overflow: ellipsis; font-variant-numeric: tabular-nums; opacity: 0.85; }
.lb-panel-plot { position: relative; cursor: crosshair; touch-action: pan-y; user-select: none; }
.lb-panel-plot canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.lb-panel-drag { position: absolute; top: 0; height: 100%; left: 0; width: 1px; transform-origin: left; pointer-events: none;
  background: var(--st-primary-color, #0b6e7f); opacity: 0.18; }
.lb-panel-drag[hidden] { display: none; }
.lb-panel-tip { position: absolute; top: 4px; left: 0; z-index: 3; width: max-content; max-width: 18rem; padding: 3px 8px; pointer-events: none;
  white-space: pre-line; overflow-wrap: anywhere; font-size: 0.75rem; line-height: 1.45; font-variant-numeric: tabular-nums; border-radius: 0.35rem;
  background: var(--st-background-color, #fff); border: 1px solid var(--st-border-color, #8884); box-shadow: 0 2px 8px #0002; }
.lb-panel-tip[hidden] { display: none; }
.lb-panel :is(.lb-x, .lb-y) { position: absolute; font-size: 0.6875rem; line-height: 1; opacity: 0.7; pointer-events: none; font-variant-numeric: tabular-nums; }
.lb-panel .lb-x { top: 100%; left: 0; height: 0; }
.lb-panel .lb-y { right: 100%; top: 0; width: 0; }
.lb-panel :is(.lb-x, .lb-y) span { position: absolute; white-space: nowrap; }
.lb-panel .lb-x span { top: 6px; left: 0; }
.lb-panel .lb-y span { right: 6px; top: -0.5em; }
.lb-panels .lb-none { grid-column: 1 / -1; text-align: center; padding: 2rem 0; font-size: 0.875rem; opacity: 0.7; }`;

export const panelOf = (name) => name.slice(0, name.indexOf(BETWEEN));
export const lineOf = (name) => name.slice(name.indexOf(BETWEEN) + 1);

// How many columns so many panels have: as few rows as fit, and those as even as can be.
export function columnsOf(count, width) {
  const most = Math.max(1, Math.floor((width + ACROSS) / (NARROWEST + ACROSS)));
  return Math.max(1, Math.ceil(count / Math.ceil(count / most)));
}

export class Panels {
  constructor(chart) {
    this.chart = chart;
    this.left = 0; // panels that are not drawn
    this.known = new Map(); // by name
    this.lines = new Map(); // the number of each line that panels have in common, by name
    this.shown = [];
    this.none = made("div", "lb-none");
    this.measure = made("canvas").getContext("2d");
    chart.plot.classList.add("lb-panels");
    chart.plot.style.minHeight = "";
    this.place = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const panel = this.shown.find(({ root }) => root === target);
        if (!panel) continue;
        panel.visible = isIntersecting;
        if (isIntersecting && panel.waits) this.paint(panel);
      }
    }, { rootMargin: "100px" });
    this.unwatch = watchMarks(() => chart.redraw());
  }

  end() {
    this.unwatch();
    this.place.disconnect();
    for (const panel of this.known.values()) removeCrosshair(panel);
  }

  // The width of what each panel draws, px.
  get wide() {
    return this.axes?.wide ?? 0;
  }

  // Draw everything.
  draw() {
    const { chart } = this;
    const { config } = chart;
    const width = chart.parent.clientWidth;
    this.lines = new Map(chart.linesOfPanels().map(([line], i) => [line, i]));
    const { inside, range } = chart.lines();
    const [low, high] = range ?? [0, 1];
    const values = valueTicks([low, high], config.scale, config.unit, Math.max(2, Math.floor(config.height / HIGH)));
    const style = getComputedStyle(chart.parent);
    this.measure.font = `11px ${style.fontFamily}`;
    const widest = Math.max(0, ...values.map(({ text }) => this.measure.measureText(text).width));
    const gutter = Math.min(120, 8 * Math.ceil((widest + 10) / 8));
    this.arrange(width, gutter);
    const wide = this.shown[0]?.plot.clientWidth ?? 0;
    const [from, to] = chart.zoomedTimes() ?? chart.shown;
    const text = style.getPropertyValue("--st-text-color").trim() || style.color;
    const primary = style.getPropertyValue("--st-primary-color").trim() || text;
    this.axes = {
      wide, tall: config.height, from, to, low, high, values, text, primary, limits: inside, place: placed(config.scale),
      times: timeTicks(from, to, Math.max(1, wide / WIDE), chart.zone),
      x: (time) => ((time - from) / (to - from)) * wide,
    };
    this.axes.y = (value) => config.height * (1 - Math.max(-2, Math.min(3, (this.axes.place(value) - low) / (high - low))));
    this.label();
    for (const panel of this.shown) this.paint(panel);
    moveCrosshair();
  }

  // Draw the panels of series that got longer. False if everything has to be drawn.
  extend(rows) {
    const { chart, axes } = this;
    if (!axes?.wide) return false;
    const found = new Set();
    for (const row of rows) {
      const panel = this.known.get(panelOf(chart.series[row].name));
      if (row !== chart.others && !panel?.rows.includes(row)) return false;
      if (row === chart.others) continue;
      for (const [least, most] of chart.series[row].cells.values()) {
        if (axes.place(most) > axes.high || (axes.place(least) < axes.low && axes.place(least) > -Infinity)) return false;
      }
      found.add(panel);
    }
    // Values hold until now, also those of other panels.
    for (const panel of chart.config.steps ? this.shown : found) this.paint(panel);
    return true;
  }

  // The panels that there are, in their places.
  arrange(width, gutter) {
    const { chart, known } = this;
    const rows = new Map();
    chart.series.forEach((series, i) => {
      if (i === chart.others || !chart.isKnown(series)) return;
      const name = panelOf(series.name);
      if (rows.has(name)) rows.get(name).push(i);
      else rows.set(name, [i]);
    });
    const names = [...rows.keys()].sort(BY_NAME.compare);
    this.left = Math.max(0, names.length - MOST);
    names.length = Math.min(names.length, MOST);
    for (const [name, panel] of known) {
      if (rows.has(name)) continue;
      removeCrosshair(panel);
      this.place.unobserve(panel.root);
      known.delete(name);
    }
    this.shown = names.map((name) => {
      if (!known.has(name)) known.set(name, new Panel(this, name));
      const panel = known.get(name);
      panel.rows = rows.get(name);
      return panel;
    });
    const columns = columnsOf(names.length || 1, width - gutter);
    const state = JSON.stringify([names, columns, gutter, chart.config.height]);
    if (state === this.state) return;
    this.state = state;
    this.columns = columns;
    chart.plot.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    chart.plot.style.paddingLeft = `${gutter}px`;
    say(this.none, chart.config.empty);
    chart.plot.replaceChildren(...(names.length ? this.shown.map(({ root }) => root) : [this.none]));
    for (const { root, plot } of this.shown) {
      plot.style.height = `${chart.config.height}px`;
      this.place.observe(root);
    }
  }

  // The axes' labels: values beside the first panel of each row, times below the last one of each column.
  label() {
    const { values, times, x, high, low, tall, wide } = this.axes;
    this.shown.forEach((panel, i) => {
      const beside = i % this.columns ? [] : values;
      put(panel.y, beside.map(({ at, text }) => [text, `translateY(${(tall * (1 - (at - low) / (high - low))).toFixed(1)}px)`]));
      const below = i + this.columns < this.shown.length ? [] : times;
      put(panel.x, below.map(({ time, text }) => {
        const half = this.measure.measureText(text).width / 2;
        return [text, `translateX(${Math.max(-4, Math.min(wide - 2 * half + 6, x(time) - half)).toFixed(1)}px)`];
      }));
    });
  }

  paint(panel) {
    panel.waits = !panel.visible;
    if (panel.waits || !this.axes?.wide) return;
    const { chart } = this;
    const { wide, tall, from, to, x, y, values, times, text, primary, limits, low, high } = this.axes;
    const pen = panel.pen(wide, tall);
    pen.globalAlpha = 0.1;
    pen.fillStyle = pen.strokeStyle = text;
    for (const { at } of values) pen.fillRect(0, Math.round(tall * (1 - (at - low) / (high - low))), wide, 1);
    for (const { time } of times) pen.fillRect(Math.round(x(time)), 0, 1, tall);
    pen.globalAlpha = 0.3;
    pen.fillRect(0, tall - 1, wide, 1);
    pen.globalAlpha = 1;
    pen.fillStyle = MISSING;
    for (const [start, end] of chart.config.gaps ?? []) {
      if (end > from && start < to) pen.fillRect(x(start), 0, Math.max(1, x(end) - x(start)), tall);
    }
    pen.lineWidth = 1;
    pen.strokeStyle = primary;
    pen.setLineDash([3, 3]);
    for (const [time] of marksBetween(from, to)) stroke(pen, [[x(time), 0], [x(time), tall]]);
    pen.strokeStyle = ALERT;
    pen.setLineDash([5, 4]);
    for (const [, value] of limits) stroke(pen, [[0, y(value)], [wide, y(value)]]);
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    for (const row of panel.rows) {
      if (chart.hidden.has(chart.idOf(row))) continue;
      const { colour, dash } = chart.lookOf(row);
      pen.strokeStyle = colour;
      pen.setLineDash(DASHES[dash]);
      pen.beginPath();
      if (chart.config.steps) this.stepsOf(pen, row);
      else this.lineOf(pen, row);
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.fillStyle = ALERT;
    for (const [line, name, time] of chart.config.marks ? chart.marked : []) {
      if (name !== panel.name || time < from || time > to) continue;
      const [, value, way] = chart.config.thresholds[line];
      const side = way === "below" ? 1 : -1;
      pen.beginPath();
      pen.moveTo(x(time), y(value) + 4 * side);
      pen.lineTo(x(time) - 4, y(value) - 3 * side);
      pen.lineTo(x(time) + 4, y(value) - 3 * side);
      pen.fill();
    }
  }

  // A line through the least and the greatest value of each pixel column.
  lineOf(pen, row) {
    const { chart } = this;
    const { from, to, x, y } = this.axes;
    for (const { bins, cells, nulls, step } of chart.stretches(row, chart.periods()[0])) {
      const broken = chart.breaks(nulls, step);
      let [column, low, high, drawn, last] = [null, 0, 0, 0, null];
      const flush = () => {
        if (column === null) return;
        if (drawn++) pen.lineTo(column, y(low));
        else pen.moveTo(column, y(low));
        if (high !== low) pen.lineTo(column, y(high)), drawn++;
      };
      const finish = () => {
        flush();
        if (drawn === 1) pen.lineTo(column + Math.max(2, x(from + step)), y(low)); // alone: a dash
        [column, drawn] = [null, 0];
      };
      for (const bin of bins) {
        if ((bin + 2) * step < from || (bin - 1) * step > to) continue;
        if (last !== null && broken(last, bin)) finish();
        last = bin;
        const [least, most] = cells.get(bin);
        const at = Math.round(x((bin + 0.5) * step));
        if (at === column) [low, high] = [Math.min(low, least), Math.max(high, most)];
        else flush(), ([column, low, high] = [at, least, most]);
      }
      finish();
    }
  }

  stepsOf(pen, row) {
    const { chart } = this;
    const { x, y } = this.axes;
    let broken = true;
    for (const [time, value] of chart.stepPoints(row, chart.periods()[0])) {
      if (value === null) broken = true;
      else if (broken) pen.moveTo(x(time), y(value)), (broken = false);
      else pen.lineTo(x(time), y(value));
    }
  }

  // What a series has nearest to a time, and up to `px` beside it: [when, cell], null if there is nothing.
  cellAt(row, time, px) {
    const { chart } = this;
    const { from, to, wide } = this.axes;
    const reach = (px * (to - from)) / wide;
    const fine = chart.fine?.rows.get(row);
    for (const [cells, step] of [[fine, chart.fine?.step], [chart.series[row].cells, chart.step]]) {
      if (!cells) continue;
      const [middle, most] = [Math.floor(time / step), Math.ceil(reach / step)];
      for (let away = 0; away <= most; away++) {
        for (const bin of away ? [middle - away, middle + away] : [middle]) {
          if (cells.has(bin)) return [(bin + 0.5) * step, cells.get(bin)];
        }
      }
    }
    return null;
  }

  // What the lines of a panel have at a time: [name, cell], the greatest first.
  valuesAt(panel, time) {
    const { chart } = this;
    return panel.rows.filter((row) => !chart.hidden.has(chart.idOf(row))).flatMap((row) => {
      const cell = chart.config.steps ? chart.heldAt(row, time) : this.cellAt(row, time, 6)?.[1];
      return cell ? [[lineOf(chart.series[row].name), cell]] : [];
    }).sort((one, other) => other[1][1] - one[1][1]);
  }

  // The marks of events at a time.
  marksAt(time) {
    const near = (4 * (this.axes.to - this.axes.from)) / this.axes.wide;
    return marksBetween(time - near, time + near).map(([, text]) => text);
  }
}

// One small chart. It has what a crosshair needs of a chart.
class Panel {
  constructor(panels, name) {
    [this.panels, this.name, this.rows, this.visible, this.waits] = [panels, name, [], true, true];
    this.root = made("div", "lb-panel");
    const head = made("header");
    const title = made("b", "", name || "(empty)");
    title.title = name;
    this.value = made("span");
    head.append(title, this.value);
    this.plot = made("div", "lb-panel-plot");
    this.canvas = made("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${name}: lines over time`);
    this.drag = made("div", "lb-panel-drag");
    this.drag.hidden = true;
    [this.x, this.y] = [made("div", "lb-x"), made("div", "lb-y")];
    this.tip = made("div", "lb-panel-tip");
    this.tip.hidden = true;
    this.plot.append(this.canvas, this.drag, this.x, this.y, this.tip);
    this.root.append(head, this.plot);
    this.hear();
    addCrosshair(this);
  }

  pen(wide, tall) {
    const scale = devicePixelRatio || 1;
    const [width, height] = [Math.round(wide * scale), Math.round(tall * scale)];
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, wide, tall);
    return pen;
  }

  // Where it has which time, see Chart in live_chart.js.
  timeAxis() {
    const { axes, chart } = this.panels;
    if (!axes?.wide || !chart.visible) return null;
    const { wide: width, tall: height, from, to, x: at } = axes;
    return { left: 0, top: 0, width, height, time: (px) => from + (px / width) * (to - from), at };
  }

  // The viewer points at a time, here or in another chart; null: at none.
  pointAt(time, here) {
    const { panels } = this;
    const { chart } = panels;
    const { unit } = chart.config;
    const values = time === null ? [] : panels.valuesAt(this, time);
    const rough = (value) => withUnit(Number(value.toPrecision(DIGITS)), unit);
    say(this.value, values.map(([, [low, high]]) => (low === high ? rough(high) : `${rough(low)} to ${rough(high)}`)).join(", "));
    this.tip.hidden = !here || time === null || panels.axes.wide === 0;
    if (this.tip.hidden) return;
    const exact = ([name, [low, high]]) => {
      const value = low === high ? withUnit(high, unit) : chart.rangeText([low, high]);
      return values.length > 1 || panels.lines.size > 1 ? `${name} ${value}` : value;
    };
    say(this.tip, [chart.zone.clock(time), ...values.map(exact), ...panels.marksAt(time)].join("\n"));
    const at = panels.axes.x(time);
    const [start, width] = [this.root.offsetLeft, this.tip.offsetWidth];
    const left = at > panels.axes.wide / 2 ? at - width - 8 : at + 8;
    const inside = Math.max(-start, Math.min(left, chart.parent.clientWidth - start - width));
    this.tip.style.transform = `translateX(${Math.round(inside)}px)`;
  }

  hear() {
    const { plot, panels } = this;
    const { chart } = panels;
    let start = null; // px
    let asking;
    const across = ({ clientX }) => Math.max(0, Math.min(panels.wide, clientX - plot.getBoundingClientRect().left));
    const stop = () => {
      start = null;
      this.drag.hidden = true;
    };
    plot.addEventListener("pointerdown", (event) => {
      if (event.button || !panels.axes) return;
      start = across(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const [one, other] = [start, across(event)].sort((a, b) => a - b);
      this.drag.hidden = other - one < DRAG;
      this.drag.style.transform = `translateX(${one}px) scaleX(${other - one})`;
    });
    plot.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const [one, other] = [start, across(event)].sort((a, b) => a - b);
      stop();
      const { time } = this.timeAxis();
      if (other - one >= DRAG) return chart.zoomInto([time(one), time(other)]);
      clearTimeout(asking);
      const column = chart.answers ? this.nearest(event) : null;
      if (column) asking = setTimeout(() => showBehind(plot, chart.plugged, column), SECOND_CLICK);
    });
    plot.addEventListener("pointercancel", stop);
    plot.addEventListener("dblclick", () => {
      clearTimeout(asking);
      chart.resetZoom();
    });
  }

  // The nearest drawn point, as the server knows it; null if none is near.
  nearest({ clientX, clientY, pointerType }) {
    const { panels } = this;
    const { chart, axes } = panels;
    const { left, top } = this.plot.getBoundingClientRect();
    let [found, least] = [null, pointerType === "touch" ? NEAR_FINGER : NEAR];
    const time = this.timeAxis().time(clientX - left);
    for (const row of this.rows) {
      const near = chart.hidden.has(chart.idOf(row)) ? null : panels.cellAt(row, time, least);
      if (!near) continue;
      const [when, cell] = near;
      for (const value of cell) {
        const away = Math.hypot(axes.x(when) + left - clientX, axes.y(value) + top - clientY);
        if (away < least) [found, least] = [chart.pixelColumn(row, when), away];
      }
    }
    return found;
  }
}

// Texts of an axis, each at its place.
function put(axis, labels) {
  while (axis.children.length > labels.length) axis.lastChild.remove();
  labels.forEach(([text, place], i) => {
    const label = axis.children[i] ?? axis.appendChild(made("span"));
    say(label, text);
    if (label.style.transform !== place) label.style.transform = place;
  });
}

function stroke(pen, [[x, y], to]) {
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(...to);
  pen.stroke();
}
