// Small multiples: for each value of a column a small chart, on its own canvas, with common axes. The series are in a
// chart (live_chart.js). Plotly would compute all axes of a figure for each drawing. With canvases, only panels that
// have new values and are on the screen are drawn.

import { placed, timeTicks, valueTicks } from "./axis.js";
import { NEAR, NEAR_FINGER, SECOND_CLICK, showBehind } from "./behind.js";
import { addCrosshair, moveCrosshair, pointAtTime, removeCrosshair } from "./crosshair.js";
import { made, say } from "./element.js";
import { marksBetween, textPlaces, watchMarks } from "./event_marks.js";
import { LENGTHS } from "./line_looks.js";
import { cut, downloadPicture, PICTURE_STYLE, pictureButton } from "./panels_picture.js";
import { BY_NAME } from "./series_names.js";
import { withUnit } from "./units.js";

export const BETWEEN = "\x1f"; // in the name of a series, between the panel's name and the line's
const MOST = 50; // panels
const NARROWEST = 210; // px of a panel
const [ACROSS, DOWN] = [14, 10]; // px between two panels
const [WIDE, HIGH] = [70, 34]; // minimum px from one label of an axis to the next
const DIGITS = 4; // of the numbers beside the titles if there is no room for all digits
const LEAST_TEXT = 24; // px below which a mark has no text
const DRAG = 5; // px from which a press counts as a drag
const MISSING = "rgba(224, 122, 48, 0.18)";
const ALERT = "#d6453d";

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
.lb-panel-plot:focus-visible { outline: 2px solid var(--st-primary-color, #0b6e7f); outline-offset: 2px; }
${PICTURE_STYLE}
.lb-panels .lb-none { grid-column: 1 / -1; text-align: center; padding: 2rem 0; font-size: 0.875rem; opacity: 0.7; }`;

export const panelOf = (name) => name.slice(0, name.indexOf(BETWEEN));
export const lineOf = (name) => name.slice(name.indexOf(BETWEEN) + 1);

// The number of columns for `count` panels: as few rows as fit the width, filled as evenly as possible.
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
    this.button = pictureButton(() => downloadPicture(this));
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

  // The width of each panel's plot, px.
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
    const { fontFamily: family } = style;
    this.measure.font = `11px ${family}`;
    const widest = Math.max(0, ...values.map(({ text }) => this.measure.measureText(text).width));
    const gutter = Math.min(120, 8 * Math.ceil((widest + 10) / 8));
    this.arrange(width, gutter);
    const wide = this.shown[0]?.plot.clientWidth ?? 0;
    const [from, to] = chart.zoomedTimes() ?? chart.shown;
    const text = style.getPropertyValue("--st-text-color").trim() || style.color;
    const primary = style.getPropertyValue("--st-primary-color").trim() || text;
    this.axes = {
      wide, tall: config.height, from, to, low, high, values, text, primary, family, ground: chart.ground(), limits: inside, place: placed(config.scale),
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
    // Values hold until now, so the lines of all panels get longer.
    for (const panel of chart.config.steps ? this.shown : found) this.paint(panel);
    return true;
  }

  // Create, remove and place the panels.
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
    chart.plot.replaceChildren(...(names.length ? [...this.shown.map(({ root }) => root), this.button] : [this.none]));
    for (const panel of this.shown) {
      panel.plot.style.height = `${chart.config.height}px`;
      panel.plot.tabIndex = panel === this.shown[0] ? 0 : -1; // one stop of the Tab key; the arrow keys do the rest
      this.place.observe(panel.root);
    }
  }

  // The axes' labels: values beside the first panel of each row, times below the last one of each column.
  label() {
    this.shown.forEach((panel, i) => {
      put(panel.y, this.valuesBeside(i).map(({ text, y }) => [text, `translateY(${y.toFixed(1)}px)`]));
      put(panel.x, this.timesBelow(i).map(({ text, x }) => [text, `translateX(${x.toFixed(1)}px)`]));
    });
  }

  // The labels beside panel `i`: { text, y }, the middle of the text in px.
  valuesBeside(i) {
    const { values, high, low, tall } = this.axes;
    return i % this.columns ? [] : values.map(({ at, text }) => ({ text, y: tall * (1 - (at - low) / (high - low)) }));
  }

  // The labels below panel `i`: { text, x }, the left end of the text in px.
  timesBelow(i) {
    const { times, x, wide } = this.axes;
    return i + this.columns < this.shown.length ? [] : times.map(({ time, text }) => {
      const width = this.measure.measureText(text).width;
      return { text, x: Math.max(-4, Math.min(wide - width + 6, x(time) - width / 2)) };
    });
  }

  paint(panel) {
    panel.waits = !panel.visible;
    if (panel.waits || !this.axes?.wide) return;
    const { wide, tall } = this.axes;
    this.paintWith(panel.pen(wide, tall), panel);
  }

  paintWith(pen, panel) {
    const { chart } = this;
    const { wide, tall, from, to, x, y, values, times, text, primary, limits, low, high } = this.axes;
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
    const marks = marksBetween(from, to).map(([time, text]) => [x(time), text]);
    for (const at of marks.map(([at]) => Math.floor(at) + 0.5)) stroke(pen, [[at, 0], [at, tall]]); // one pixel wide
    if (panel === this.shown[0]) this.writeMarks(pen, marks);
    pen.strokeStyle = ALERT;
    pen.setLineDash([5, 4]);
    for (const [, value] of limits) stroke(pen, [[0, y(value)], [wide, y(value)]]);
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    for (const row of panel.rows) {
      if (chart.hidden.has(chart.idOf(row))) continue;
      const { colour, dash } = chart.lookOf(row);
      pen.strokeStyle = colour;
      pen.setLineDash(LENGTHS[dash]);
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

  // The texts of marks, [px, text]. Only the first panel has them, because they are the same in all panels.
  writeMarks(pen, marks) {
    const { wide, primary, ground, family } = this.axes;
    const places = textPlaces(marks, wide);
    Object.assign(pen, { font: `10px ${family}`, textBaseline: "top", textAlign: "left" });
    marks.forEach(([at, text], i) => {
      const { left, room } = places[i];
      if (room < LEAST_TEXT) return;
      const said = cut(pen, text, room);
      const width = pen.measureText(said).width;
      const start = left ? at - 4 - width : at + 4;
      pen.fillStyle = ground; // over the lines of the other marks
      pen.fillRect(start, 1, width, 12);
      pen.fillStyle = primary;
      pen.fillText(said, start, 2);
    });
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

  // The value of a series nearest to a time, at most `px` away: [time, cell]; null if there is none.
  cellAt(row, time, px) {
    const { chart } = this;
    const { axes } = this;
    const reach = (px * (axes.to - axes.from)) / axes.wide;
    const { finer, step } = chart;
    const isFiner = (bin) => finer && (bin + 1) * step > finer.from * finer.step && bin * step < finer.to * finer.step; // has finer bins
    for (const [cells, wide, hides] of [[finer?.rows.get(row), finer?.step, () => false], [chart.series[row].cells, step, isFiner]]) {
      if (!cells) continue;
      const [middle, most] = [Math.floor(time / wide), Math.ceil(reach / wide)];
      for (let away = 0; away <= most; away++) {
        for (const bin of away ? [middle - away, middle + away] : [middle]) {
          if (cells.has(bin) && !hides(bin)) return [(bin + 0.5) * wide, cells.get(bin)];
        }
      }
    }
    return null;
  }

  // The values of a panel's lines at a time: [name, cell], the greatest first.
  valuesAt(panel, time) {
    const { chart } = this;
    return panel.rows.filter((row) => !chart.hidden.has(chart.idOf(row))).flatMap((row) => {
      const cell = chart.config.steps ? chart.heldAt(row, time) : this.cellAt(row, time, 6)?.[1];
      return cell ? [[lineOf(chart.series[row].name), cell]] : [];
    }).sort((one, other) => other[1][1] - one[1][1]);
  }

  // The times of a panel's values, ms since the epoch, ascending.
  timesOf(panel) {
    const { chart } = this;
    const { from, to } = this.axes;
    const times = panel.rows.filter((row) => !chart.hidden.has(chart.idOf(row))).flatMap((row) =>
      chart.stretches(row, chart.periods()[0]).flatMap(({ bins, step }) => bins.map((bin) => (bin + 0.5) * step)));
    return [...new Set(times)].filter((time) => time >= from && time <= to).sort((one, other) => one - other);
  }

  // The marks of events at a time.
  marksAt(time) {
    const near = (4 * (this.axes.to - this.axes.from)) / this.axes.wide;
    return marksBetween(time - near, time + near).map(([, text]) => text);
  }
}

// One small chart. It has the members of a chart that a crosshair needs.
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
    this.listen();
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

  // See Chart.timeAxis() in live_chart.js.
  timeAxis() {
    const { axes, chart } = this.panels;
    if (!axes?.wide || !chart.visible) return null;
    const { wide: width, tall: height, from, to, x: at } = axes;
    return { left: 0, top: 0, width, height, time: (px) => from + (px / width) * (to - from), at };
  }

  // The viewer points at a time, here or in another chart; null if at none.
  pointAt(time, here) {
    const { panels } = this;
    const { chart } = panels;
    const { unit } = chart.config;
    const values = time === null ? [] : panels.valuesAt(this, time);
    say(this.value, this.fitting(values.map(([, cell]) => cell)));
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

  // The values beside the title: with all digits if there is room, else rounded to DIGITS.
  fitting(cells) {
    const { axes, measure, chart } = this.panels;
    const { unit } = chart.config;
    const said = (text) => cells.map(([low, high]) => (low === high ? text(high) : chart.rangeText([low, high]))).join(", ");
    if (!cells.length || !axes?.wide) return "";
    measure.font = `600 12px ${axes.family}`;
    const title = Math.min(0.62 * axes.wide, measure.measureText(this.name || "(empty)").width);
    measure.font = `12px ${axes.family}`;
    const all = said((value) => withUnit(value, unit));
    const fits = measure.measureText(all).width <= axes.wide - title - 12;
    measure.font = `11px ${axes.family}`;
    return fits ? all : `≈ ${said((value) => withUnit(Number(value.toPrecision(DIGITS)), unit))}`;
  }

  // Left and Right go from value to value, Up and Down to the previous and the next panel. Home and End go to the first
  // and the last value. Esc ends pointing.
  press(event) {
    const { panels } = this;
    if (!panels.axes?.wide || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const { key } = event;
    if (key === "Escape" && this.keyed === null) return;
    if (!["Escape", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (key === "ArrowUp" || key === "ArrowDown") {
      const { shown } = panels;
      const next = shown[shown.indexOf(this) + (key === "ArrowUp" ? -1 : 1)];
      if (!next) return;
      const { keyed } = this;
      next.plot.focus();
      return next.pointWithKeys(keyed);
    }
    const times = panels.timesOf(this);
    const at = this.keyed;
    const before = () => times.findLast((time) => time < at) ?? times[0];
    const after = () => times.find((time) => time > at) ?? times.at(-1);
    const found = { Escape: () => null, Home: () => times[0], End: () => times.at(-1), ArrowLeft: before, ArrowRight: after };
    const first = at === null && key.startsWith("Arrow");
    this.pointWithKeys((first ? times.at(-1) : found[key]()) ?? null);
  }

  pointWithKeys(time) {
    this.keyed = time;
    this.tip.setAttribute("role", "status"); // read out by screen readers
    pointAtTime(this, time);
  }

  listen() {
    const { plot, panels } = this;
    this.keyed = null; // the time that the keyboard points at
    plot.addEventListener("keydown", (event) => this.press(event));
    plot.addEventListener("blur", () => this.keyed !== null && this.pointWithKeys(null));
    plot.addEventListener("pointermove", () => (this.keyed = null));
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

  // The pixel column of the nearest drawn point, in the server's terms; null if none is near.
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
