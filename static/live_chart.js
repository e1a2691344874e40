// The live chart: keeps the bins it was sent, and draws them with Plotly. components/charts/wire.py describes the
// messages. They arrive over the tab's own websocket or, if that is blocked, with the page's elements. In that case
// each has a number and the number of its base. The chart ignores a message that is not newer than its state. If one
// extends one it never received, it replies with the last number it applied, and the server resends from there.

import { placed, span, ticksOf, valueAxis } from "./axis.js";
import { watchClicks } from "./behind.js";
import { channel } from "./channel.js";
import { addCrosshair, moveCrosshair, removeCrosshair } from "./crosshair.js";
import { Reader } from "./chart_message.js";
import { charts, drawNoMore, drawSoon, isDrawing } from "./chart_turns.js";
import { made as element } from "./element.js";
import { addMarks, pictureOfMarks, removeMarks } from "./event_marks.js";
import { Legend, LEGEND_STYLE } from "./legend.js";
import { colourOf, dashOf, faded } from "./line_looks.js";
import { lineOf, PANEL_STYLE, Panels } from "./panels.js";
import { watchOthers } from "./pointed_others.js";
import { AxisTime, behind, escapeMarkup, loadPlotly, parsed } from "./plotly.js";
import { BY_NAME, sharedTokens } from "./series_names.js";
import { leave, steps } from "./steps.js";
import { roughUnit, scales, unitName, withUnit } from "./units.js";
import { pageZone, watchZone } from "./zone.js";
import { joinZoom, leaveZoom, spreadZoom } from "./zoom_together.js";

const ASK_AGAIN = 5000; // ms after which an unanswered request to resend is repeated
const ALERT = "#d6453d"; // thresholds and their names
const REST = 200; // ms without a further change of the range
const AWAY = 2000; // ms that a chart waits for a new element after its own was taken off the page
const LAGS = 7000; // ms after the last frame for which a chart's clock continues
const OTHERS = -1; // the id of the others among hidden series, because their name changes
const AS_GIVEN = { rule: null, names: [], value: null }; // choices: the page's own rule, and a legend sorted by name
const STYLE = `
.lb-chart-title { font-weight: 600; font-size: 0.95rem; line-height: 30px; }`;

// The viewer's changes to each chart, by page and key. They are restored when the chart is created again: after its
// rows were missing for a moment (a killed process), or when the viewer comes back to the page.
const done = new Map();
let ticking;
let choicesMade = 0; // in this tab

async function draw(component) {
  const { data, parentElement } = component;
  if (parentElement.isConnected) {
    const left = parentElement.lookback ? null : leftBehind(data);
    if (left?.stale) return () => {};
    const chart = (parentElement.lookback ??= left?.chart.moveTo(parentElement) ?? new Chart(parentElement));
    charts.add(chart);
    if (data instanceof Uint8Array) {
      chart.unplug();
      chart.receive(data, component);
      await chart.load();
      chart.draw();
    } else {
      chart.remember = (choices) => component.setStateValue("choices", choices);
      chart.plug(data.live, data.height);
    }
  }
  return () => parentElement.lookback?.leave();
}

// Finds the chart that another element has for the same data, so that it can be moved. Streamlit replaces an element
// when its surroundings change, on a busy machine sometimes while the old one is still there. A new chart would lose a
// drag in progress, the focus and typed text. `stale`: the chart's own element is the newer one.
function leftBehind(data) {
  if (!(data instanceof Uint8Array)) {
    const chart = [...charts].find((chart) => chart.plugged === data.live && chart.page === location.pathname);
    return chart ? { chart, stale: false } : null;
  }
  const { sender, number, head } = new Reader(data).opening();
  const key = head.config?.key;
  const chart = [...charts].find((chart) => chart.sender === sender || (key && chart.config?.key === key));
  if (!chart) return null;
  return { chart, stale: chart.parent.isConnected && chart.sender === sender && number <= chart.number };
}

// The same chart for numbers from another source, which the caller puts into it.
export async function chartIn(parentElement, config) {
  const chart = new Chart(parentElement);
  chart.setRange = () => {}; // this source has no finer bins
  chart.answers = false; // nor can it return messages or other series
  chart.config = config;
  chart.plot.style.height = `${config.height}px`;
  chart.library = await loadPlotly(config.plotly);
  return chart;
}

class Chart {
  constructor(parent) {
    this.parent = parent;
    this.page = location.pathname;
    this.clock = { ms: 0, at: 0 }; // the server's time, and when it was received, by performance.now()
    this.visible = true;
    this.plugged = null; // its number on the tab's websocket
    this.sender = null;
    this.number = 0;
    this.asked = -Infinity;
    this.series = [];
    this.zoom = { x: null, y: null };
    this.near = new Set(); // thresholds that the y axis includes
    this.longer = new Set(); // series with cells that are not drawn yet
    this.other = true; // other changes are not drawn yet, so extend() is not enough
    this.hidden = new Set();
    this.alone = false; // zoomed by itself
    this.answers = true; // the server can return the messages behind a point
    this.finer = null; // bins of the zoomed range
    this.sentRange = null; // the range that was last sent to the server
    this.choices = AS_GIVEN; // which series have lines of their own, and what the legend shows
    this.sentChoices = AS_GIVEN; // the choices that were last sent to the server
    this.choice = this.remembered = 0; // numbers of the viewer's last choice, and of the last one sent for the address

    const style = document.createElement("style");
    style.textContent = STYLE + LEGEND_STYLE + PANEL_STYLE;
    this.title = element("div", "lb-chart-title");
    this.plot = element("div");
    this.legend = new Legend(this);
    parent.replaceChildren(style, this.title, this.plot, this.legend.root);

    this.redraw = () => this.draw();
    this.unwatchZone = watchZone(() => {
      this.other = true;
      if (this.drawn) drawSoon(this);
    });
    this.size = new ResizeObserver(() => this.drawn && this.draw());
    this.size.observe(parent);
    this.place = new IntersectionObserver(([{ isIntersecting }]) => {
      this.visible = isIntersecting;
      if (isIntersecting && this.config) this.sendRange();
      if (this.waits && isIntersecting) drawSoon(this);
    }, { rootMargin: "200px" });
    this.place.observe(parent);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
    document.addEventListener("visibilitychange", this.redraw);
    // Plotly's tip at the pointer shows the values of Plotly's own last drawing, so draw the newer ones first.
    this.plot.addEventListener("pointerenter", () => {
      if (!this.other && this.drawn && this.longer.size + this.extended) this.draw();
    });
    // A redraw during a drag would end it, so wait for the pointer.
    this.plot.addEventListener("pointerdown", () => (this.held = true), { capture: true });
    this.release = () => {
      if (!this.held) return;
      this.held = false;
      setTimeout(this.redraw); // after Plotly has seen it too
    };
    window.addEventListener("pointerup", this.release);
    window.addEventListener("pointercancel", this.release);
  }

  // Its element is no longer on the page.
  leave() {
    if (this.parent.isConnected) this.end();
    else this.leaving = setTimeout(() => this.end(), AWAY);
  }

  // Move into another element, unchanged.
  moveTo(parent) {
    clearTimeout(this.leaving);
    delete this.parent.lookback;
    this.size.unobserve(this.parent);
    this.place.unobserve(this.parent);
    parent.replaceChildren(...this.parent.childNodes);
    this.parent = parent;
    this.size.observe(parent);
    this.place.observe(parent);
    if (document.activeElement === document.body) this.legend.focused?.focus({ preventScroll: true });
    return this;
  }

  end() {
    drawNoMore(this);
    removeCrosshair(this);
    removeMarks(this);
    leaveZoom(this);
    this.unplug();
    this.size.disconnect();
    this.place.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    document.removeEventListener("visibilitychange", this.redraw);
    window.removeEventListener("pointerup", this.release);
    window.removeEventListener("pointercancel", this.release);
    clearTimeout(this.sending);
    this.panels?.end();
    this.unwatchZone();
    if (this.drawn && this.library) this.library.purge(this.plot);
    this.parent.replaceChildren();
    this.ended = true;
    const { zoom, hidden, start, alone, offset, choices } = this;
    if (this.config) done.set(this.known, { zoom, hidden, start, alone, offset, choices, scale: this.config.scale, typed: this.legend.search.value });
    delete this.parent.lookback;
  }

  async load() {
    if (this.config && !this.config.facet) this.library ??= await loadPlotly(this.config.plotly);
  }

  // True if the code that draws the chart is loaded.
  get ready() {
    return Boolean(this.library || this.config?.facet);
  }

  get zone() {
    return pageZone();
  }

  // Receive the messages for this number over the tab's websocket.
  plug(number, height) {
    if (this.plugged === number) return;
    this.unplug();
    this.plugged = number;
    ticking ??= setInterval(() => charts.forEach((chart) => chart.tick()), 250);
    if (!this.config) this.plot.style.minHeight = `${height}px`;
    this.setRange = (range) => channel().say(number, { range });
    this.setChoices = (choices) => {
      channel().say(number, { choices });
      if (this.choice === this.remembered) return;
      this.remembered = this.choice;
      this.remember?.({ ...choices, number: this.choice }); // for the page's address
    };
    channel().busy = isDrawing;
    channel().attach(number, this);
  }

  unplug() {
    if (this.plugged === null) return;
    channel().detach(this.plugged, this);
    this.plugged = null;
    this.sender = null; // the next message with the elements must be complete
  }

  // A message from the tab's websocket.
  apply(message) {
    const read = new Reader(message);
    const flags = read.byte();
    const head = read.header(flags);
    if (!this.config && !(flags & 4)) return false; // meant for the earlier chart with this number
    if (flags & 4) this.begin(head);
    if ("now" in head) this.now = head.now;
    this.change(read, flags, head, flags & 4 ? {} : this.config);
    if (this.ready) drawSoon(this);
    else this.load().then(() => drawSoon(this), () => {}); // the next message tries again
  }

  get now() {
    const { ms, at } = this.clock;
    if (this.config?.still || this.plugged === null || channel().pace === null) return ms;
    return ms + Math.max(0, Math.min(performance.now(), channel().receivedAt + LAGS) - at);
  }

  set now(ms) {
    this.clock = { ms, at: performance.now() };
  }

  // The axis moves on without a message.
  tick() {
    if (this.plugged === null || !this.drawn || !this.config || channel().pace === null) return;
    const passed = this.now - this.shownAt;
    if (passed >= 1000 * Math.max(1, channel().pace) - 50 && (this.config.steps || this.moved())) drawSoon(this);
  }

  // Start and end of the x axis, ms, unless the viewer has zoomed.
  span() {
    const { compare, whole, window, young } = this.config;
    if (compare) return [compare.starts[0], compare.end];
    if (whole) return [this.now - window, this.now];
    return span(this.now, window, Math.floor(young / this.step) * this.step); // a point is in the middle of its bin
  }

  // True if the axis has moved by at least a pixel since it was drawn.
  moved() {
    if (this.config.compare) return true; // the line at now
    const [start, end] = this.span();
    const pixel = (end - start) / (this.panels?.wide || this.parent.clientWidth || 600);
    return !this.shown || Math.max(Math.abs(start - this.shown[0]), Math.abs(end - this.shown[1])) >= pixel;
  }

  receive(data, { setTriggerValue, setStateValue }) {
    this.setRange = (range) => setStateValue("range", range);
    this.setChoices = (choices) => setStateValue("choices", { ...choices, number: this.choice });
    const read = new Reader(data);
    const { flags, sender, number, base, now, head } = read.opening();
    if (sender === this.sender && number <= this.number) return; // repeated, or late
    if (base && (sender !== this.sender || base > this.number)) {
      if (performance.now() - this.asked < ASK_AGAIN) return;
      this.asked = performance.now();
      setTriggerValue("resync", [this.sender ?? 0, this.number]);
      return;
    }
    [this.sender, this.number, this.now, this.asked] = [sender, number, now, -Infinity];
    if (!base) this.begin(head);
    this.change(read, flags, head, base ? this.config : {});
  }

  // The message is complete: it extends no earlier one.
  begin(head) {
    [this.others, this.future, this.marked, this.sentRange, this.sentChoices] = [null, 0, [], null, AS_GIVEN];
    if (this.config) return;
    this.known = `${this.page} ${head.config?.key}`;
    if (!done.has(this.known)) return;
    const { typed, scale, ...left } = done.get(this.known);
    Object.assign(this, left);
    if (!head.config.choices && this.choices !== AS_GIVEN) this.choice = ++choicesMade;
    if (scale !== head.config.scale) this.zoom.y = null;
    this.legend.search.value = typed;
  }

  change(read, flags, head, config) {
    this.configure(config, head);
    const onlyValues = head.config && Object.keys(head.config).every((name) => name === "values");
    const drawn = (name) => name !== "now" && name !== "oldest" && !(name === "config" && onlyValues);
    if (flags & 2 || this.finer || Object.keys(head).some(drawn)) this.other = true;
    const [names, known] = [head.names ?? [], this.series];
    const cells = read.cells(false, Math.max(known.length, ...names.map(([i]) => i + 1)), this.origin);
    if (cells.whole) [this.series, this.other] = [[], true];
    for (const [i, name] of names) (this.series[i] ??= { cells: new Map(), nulls: new Set(), sorted: true }).name = name;
    cells.each((row, bin, cell) => {
      const { cells, nulls } = this.series[row];
      this.longer.add(row);
      if (cell[0] === -Infinity) nulls.add(bin);
      else nulls.delete(bin);
      if (Math.abs(cell[0]) === Infinity) return cells.delete(bin);
      if (!cells.has(bin)) this.series[row].sorted = false;
      cells.set(bin, cell);
    });
    for (const [row, bin, value] of head.held ?? []) this.series[row].held = { bin, cell: [value, value] };
    if (cells.whole) this.oldest = -Infinity;
    this.oldest = Math.max(this.oldest, cells.oldest ?? head.oldest ?? -Infinity);
    this.forgetOld();
    if (flags & 2) this.takeFiner(read.cells(true), head.finer);
    else this.finer = null;
    this.settleZone();
    this.keepZoom();
    if (this.finer && !this.zoom.x) this.sentRange = undefined; // from before the page was left
    this.sendRange();
    this.sendChoices();
    if (onlyValues && this.drawn) this.legend.showValues();
  }

  // Bins that the look-back no longer reaches.
  forgetOld() {
    this.oldest = Math.max(this.oldest, Math.floor((this.now - this.config.window) / this.step));
    for (const series of this.series) {
      const { cells, nulls } = series;
      if (this.config.steps) leave(series, this.oldest);
      forget(cells, this.oldest, Infinity);
      for (const bin of nulls) if (bin < this.oldest) nulls.delete(bin);
    }
  }

  configure(config, head) {
    if (this.config && head.config && "scale" in head.config) this.zoom.y = null;
    if (head.gone?.includes("scale")) this.zoom.y = null;
    this.config = { ...config, ...head.config };
    this.origin = head.origin ?? this.origin;
    for (const name of head.gone ?? []) delete this.config[name];
    this.takeChoices();
    this.step = head.step ?? this.step;
    if ("others" in head) this.others = head.others;
    if ("future" in head) this.future = head.future;
    const named = ({ names, at }) => at.map(([line, name, ...rest]) => [line, names[name], ...rest]);
    if (head.config?.marks) this.marked = named(head.config.marks);
    if (!head.marks) return;
    this.marked = [...named(head.marks), ...this.marked.slice(0, head.marks.keep)];
    this.config.marks = head.marks;
  }

  takeFiner(cells, step) {
    if (cells.whole) this.finer = { rows: new Map(), nulls: new Map() };
    Object.assign(this.finer, { step: step ?? this.finer.step, from: cells.oldest, to: cells.end });
    const { rows, nulls } = this.finer;
    cells.each((row, bin, cell) => {
      if (!rows.has(row)) rows.set(row, new Map()), nulls.set(row, new Set());
      if (cell[0] === -Infinity) return nulls.get(row).add(bin);
      nulls.get(row).delete(bin);
      if (cell[0] === Infinity) return rows.get(row).delete(bin);
      rows.get(row).set(bin, cell);
    });
    for (const bins of [...rows.values(), ...nulls.values()]) forget(bins, cells.oldest, cells.end);
  }

  // The zoomed range, reported once the viewer's hand rests: the server has finer bins for it.
  sendRange() {
    if (!this.visible && this.drawn) return; // sent when the chart is on the screen again
    const range = this.zoom.x && !this.config.compare ? this.zoom.x.map((time) => this.utc(time)) : null;
    if (String(range) === String(this.wanted ?? this.sentRange)) return; // messages may arrive before the timer ends
    clearTimeout(this.sending);
    this.wanted = String(range);
    this.sending = setTimeout(() => {
      this.sentRange = range;
      this.wanted = undefined;
      this.setRange(range);
    }, REST);
  }

  // The connection was lost, so the last range and choices may not have reached the server.
  resumed() {
    this.sentRange = undefined;
    if (this.sentChoices !== AS_GIVEN) this.sentChoices = undefined;
    if (!this.config) return;
    this.sendRange();
    this.sendChoices();
  }

  // The viewer has chosen something in the legend.
  choose(choices) {
    this.choices = { ...this.choices, ...choices };
    this.choice = ++choicesMade;
    this.sendChoices();
    this.legend.draw();
  }

  // The page's address may have other choices: from a link, or after a step back. A number below that of the viewer's
  // last choice means that the address is not up to date, so the viewer's choice stays.
  takeChoices() {
    const { number = 0, ...choices } = this.config.choices ?? AS_GIVEN;
    if (number >= this.choice && spelledOut(choices) !== spelledOut(this.choices)) this.choices = this.sentChoices = choices;
  }

  sendChoices() {
    if (JSON.stringify(this.choices) === JSON.stringify(this.sentChoices)) return;
    this.sentChoices = this.choices;
    this.setChoices(this.choices);
  }

  get drawable() {
    if (!this.ready || !this.config || this.ended || this.held || document.hidden || !this.parent.isConnected) return false;
    if (this.offset === undefined) return false; // nothing received yet
    this.waits = !this.visible && this.drawn;
    return !this.waits;
  }

  // Draws lines that got longer, without Plotly, which computes everything for each drawing. False if Plotly has to
  // draw: the axis has moved by a pixel, values are beyond the drawn range, or the pointer is over the chart, whose tip
  // needs the newest values.
  extend() {
    if (this.panels) return this.extendPanels();
    if (this.other || !this.extent || !this.drawable || this.plot.matches(":hover")) return false;
    const { low, high } = this.extent;
    if (this.moved()) return false;
    const { xaxis, yaxis } = this.plot._fullLayout;
    const end = xaxis.l2p(xaxis.r2l(xaxis.range[1]));
    const height = this.config.scale === "log" ? (value) => yaxis.l2p(Math.log10(value)) : (value) => yaxis.l2p(value);
    const lines = [];
    for (const row of this.config.steps ? this.series.keys() : this.longer) { // a value holds until now
      if (this.hidden.has(this.idOf(row))) continue;
      const trace = this.plot.data.find(({ uid }) => uid === String(row));
      const paths = this.plot.querySelectorAll(`.scatterlayer .trace${row} path.js-line`);
      const found = this.points(row, this.periods()[0]);
      if (paths.length !== 1 || found.y.some((y) => y === null || !(y >= low && y <= high))) return false;
      lines.push([paths[0], trace, found]);
    }
    for (const [path, trace, found] of lines) {
      Object.assign(trace, found);
      const at = (time, i) => {
        const x = xaxis.d2p(time);
        // The axis has not moved yet, and Plotly clips the line at its end.
        return `${(x < end + 2 ? Math.min(x, end) : x).toFixed(2)},${height(found.y[i]).toFixed(2)}`;
      };
      path.setAttribute("d", `M${found.x.map(at).join("L")}`);
    }
    this.longer.clear();
    this.extended = true;
    return true;
  }

  extendPanels() {
    if (this.other || this.zoom.x || !this.drawable || this.moved() || !this.panels.extend(this.longer)) return false;
    this.longer.clear();
    return true;
  }

  // The range of values within which lines may be drawn without Plotly; null if they may not.
  extents() {
    if (this.config.compare || this.zoom.x || this.zoom.y || this.others !== null || this.config.gaps?.length) return null;
    let [low, high] = [Infinity, -Infinity];
    const { scale, steps } = this.config;
    for (const [i, { cells, nulls, held }] of this.series.entries()) {
      if ((cells.size < 3 && !steps) || nulls.size) return null;
      if (this.hidden.has(this.idOf(i))) continue;
      for (const [least, most] of held ? [held.cell, ...cells.values()] : cells.values()) [low, high] = [Math.min(low, least), Math.max(high, most)];
    }
    return scale === "log" && low <= 0 ? null : { low, high };
  }

  // False if it cannot be drawn now.
  draw() {
    if (!this.drawable) return false;
    this.settleZone();
    if (!this.drawn) joinZoom(this);
    if (this.plugged !== null) this.forgetOld();
    this.extent = this.plugged === null || this.config.facet ? null : this.extents();
    this.longer.clear();
    this.other = this.extended = false;
    this.shownAt = this.now;
    this.shown = this.span();
    this.title.textContent = this.config.title;
    this.title.style.display = this.config.title ? "" : "none";
    const first = !this.drawn;
    this.drawn = true;
    if (this.config.facet) (this.panels ??= new Panels(this)).draw();
    this.legend.draw();
    if (this.config.facet) return true;
    // Always the same object: for a new one, Plotly rebuilds the chart from scratch.
    this.settings ??= {
      displaylogo: false,
      displayModeBar: "hover",
      modeBarButtons: [[this.download(), this.resetButton()]],
      doubleClick: false,
      responsive: false,
    };
    this.library.react(this.plot, this.traces(), this.layout(), this.settings);
    moveCrosshair();
    if (!first) return true;
    if (!this.config.compare) addCrosshair(this), addMarks(this);
    if (!this.config.compare && this.answers) watchClicks(this), watchOthers(this);
    this.plot.style.minHeight = "";
    this.plot.on("plotly_relayout", (change) => this.zoomed(change));
    this.plot.on("plotly_doubleclick", () => this.resetZoom());
    return true;
  }

  resetZoom() {
    this.zoom = { x: null, y: null };
    this.sendRange();
    spreadZoom(this);
    this.draw();
  }

  // Plotly's own button returns to the times of the first drawing.
  resetButton() {
    return { name: "reset", title: "Reset the zoom", icon: this.library.Icons.home, click: () => this.resetZoom() };
  }

  // True if a series has values to draw.
  isKnown({ cells, held }) {
    return cells.size > 0 || Boolean(this.config.steps && held);
  }

  // The lines that all small multiples share: [name, number of the first series of that name].
  linesOfPanels() {
    const lines = new Map();
    this.series.forEach(({ name }, i) => i !== this.others && !lines.has(lineOf(name)) && lines.set(lineOf(name), i));
    return [...lines].sort((one, other) => BY_NAME.compare(one[0], other[0]));
  }

  // The colour and dashes of a series' line.
  lookOf(i) {
    const at = this.panels ? this.panels.lines.get(lineOf(this.series[i].name)) : i;
    return { colour: colourOf(at), dash: dashOf(at) };
  }

  // The key under which a series is hidden.
  idOf(i) {
    if (i === this.others) return OTHERS;
    return this.panels ? lineOf(this.series[i].name) : this.series[i].name;
  }

  // For a PNG: draw title, legend and background, which are HTML on the page.
  download() {
    const click = () => {
      const layout = this.layout();
      const ground = layout.hoverlabel.bgcolor;
      const title = { text: escapeMarkup(this.config.title), font: { size: 15 } };
      this.library.downloadImage(
        {
          data: this.traces().filter((trace) => trace.visible === true),
          layout: {
            ...layout, title, shapes: layout.shapes.concat(this.markShapes()), paper_bgcolor: ground, plot_bgcolor: ground, showlegend: true,
            margin: { ...layout.margin, t: title.text ? 50 : 20 }, height: layout.height + 120,
            legend: { orientation: "h", y: -0.2, yanchor: "top" },
            xaxis: { ...layout.xaxis, title: { text: escapeMarkup(this.zone.called(this.reference())), font: { size: 11 } } },
          },
        },
        { format: "png", scale: 2, height: layout.height + 120, width: this.parent.clientWidth, filename: "chart" },
      );
    };
    return { name: "picture", title: "Download as PNG", icon: this.library.Icons.camera, click };
  }

  markShapes() {
    const safe = ({ label, ...shape }) => ({ ...shape, label: { ...label, text: escapeMarkup(label.text) } });
    return this.config.compare ? [] : pictureOfMarks(this).map(safe);
  }

  shortNames() {
    if (this.panels) return this.series.map(({ name }) => lineOf(name));
    const names = this.series.map((series) => series.name);
    const skip = sharedTokens(names);
    return names.map((name) => name.split(".").slice(skip).join("."));
  }

  zoomed(change) {
    const before = String(this.zoom.x);
    for (const axis of ["x", "y"]) {
      const name = `${axis}axis`;
      if (change[`${name}.autorange`]) this.zoom[axis] = null;
      else if (`${name}.range[0]` in change) {
        this.zoom[axis] = [change[`${name}.range[0]`], change[`${name}.range[1]`]];
      }
    }
    this.sendRange();
    if (String(this.zoom.x) !== before) spreadZoom(this);
    if (change["xaxis.autorange"] || change["yaxis.autorange"] || scales(this.config.unit)) this.draw();
    else this.legend.draw();
  }

  // The viewer has zoomed in a small multiple.
  zoomInto(range) {
    this.zoom.x = range.map((ms) => this.local(ms));
    this.sendRange();
    spreadZoom(this);
    this.draw();
  }

  // Another chart was zoomed or reset. `range`: start and end, ms since the epoch; null if reset.
  zoomTo(range) {
    this.zoom = range ? { ...this.zoom, x: range.map((ms) => this.local(ms)) } : { x: null, y: null };
    this.other = true;
    this.sendRange();
    drawSoon(this);
  }

  zoomedTimes() {
    return this.zoom.x?.map((time) => this.utc(time)) ?? null;
  }

  // The plot's place in the element, px, with conversions: time() from px of the plot to ms since the epoch, at() back.
  // Null if it has not been drawn.
  timeAxis() {
    const { xaxis, _size: size } = this.plot._fullLayout ?? {};
    if (!size) return null;
    return {
      left: size.l,
      top: size.t,
      width: size.w,
      height: size.h,
      time: (px) => xaxis.p2l(px) + this.offset,
      at: (ms) => xaxis.l2p(ms - this.offset),
    };
  }

  // The pixel column of a drawn point, in the server's terms: series name (null: the others) and times. Null if none.
  pixelColumn(row, time) {
    const series = row === this.others ? null : this.series[row].name;
    const own = (this.finer?.rows.get(row) ?? new Map());
    for (const [cells, step] of [[own, this.finer?.step], [this.series[row].cells, this.step]]) {
      const bin = Math.floor(time / step);
      // The last point of a dash or of a band is at the end of its column.
      const found = [bin, bin - 1].find((bin) => cells.has(bin));
      if (found !== undefined) return { series, from: found * step, to: (found + 1) * step };
    }
    return null;
  }

  // The cell of a series in one of its pixel columns.
  cellAt(row, { from, to }) {
    const own = to - from < this.step ? this.finer.rows.get(row) : this.series[row].cells;
    return own.get(Math.round(from / (to - from)));
  }

  // The address of this page at the zoomed range (components/choices/clock.py). Null without a zoom, and in a
  // comparison, whose range stands for several stretches.
  stretchAddress() {
    if (!this.zoom.x || this.config.compare || this.plugged === null) return null;
    const address = new URL(location.href);
    for (const [i, name] of ["from", "to"].entries()) {
      address.searchParams.set(name, new Date(this.utc(this.zoom.x[i])).toISOString());
    }
    address.searchParams.delete("last");
    return address.href;
  }

  // The periods to overlay, newest first: `shift` moves a period's times (ms) to those of the newest. Without a
  // comparison there is one period without an end.
  periods() {
    const { compare } = this.config;
    if (!compare) return [{ k: 0, from: -Infinity, to: Infinity, shift: 0, name: "" }];
    const { starts, names, end } = compare;
    return starts.map((from, k) => ({ k, from, to: starts[k - 1] ?? end, shift: starts[0] - from, name: names[k] }));
  }

  called({ from, to, name }) {
    const holds = ({ cells }) => [...cells.keys()].some((bin) => bin * this.step >= from && bin * this.step < to);
    if (this.series.some(holds)) return name;
    const unread = (this.config.gaps ?? []).some(([start, end, word]) => word && end > from && start < to);
    return `${name}: ${unread ? "not loaded" : "no numbers"}`;
  }

  traces() {
    const few = ({ cells }) => cells.size > 0 && cells.size < 3;
    const pointed = !this.config.steps && this.series.some(few);
    const names = this.shortNames();
    const several = this.series.length > 1;
    const traces = this.periods().reverse().flatMap((period) => this.series.map((series, i) => ({
      type: "scatter",
      mode: pointed ? "lines+markers" : "lines",
      uid: period.k ? `${i}-${period.k}` : String(i),
      name: escapeMarkup([several || !period.name ? names[i] : "", period.name].filter(Boolean).join(", ")),
      visible: this.hidden.has(this.idOf(i)) || (period.name && this.hidden.has(period.k)) ? "legendonly" : true,
      opacity: faded(period.k),
      line: { width: 1.5, color: colourOf(i), dash: period.k ? "dot" : dashOf(i) },
      marker: { size: 4 },
      hovertemplate: "%{customdata}",
      ...this.points(i, period),
    })));
    // Below the lines.
    return [...traces.sort((a, b) => Boolean(b.fill) - Boolean(a.fill)), ...this.marks()];
  }

  // Marks where a line crossed a threshold, in the line's colour.
  marks() {
    const index = new Map(this.series.map((series, i) => [series.name, i]));
    const start = this.now - this.config.window;
    const marked = this.config.marks ? this.marked : [];
    const shown = marked.filter(([, name, time]) => time >= start && !this.hidden.has(name));
    if (!shown.length) return [];
    return [{
      type: "scatter",
      mode: "markers",
      uid: "marks",
      name: "crossings",
      showlegend: false,
      visible: true,
      x: shown.map(([, , time]) => this.local(time)),
      y: shown.map(([line]) => this.config.thresholds[line][1]),
      marker: {
        size: 8,
        symbol: shown.map(([line]) => (this.config.thresholds[line][2] === "below" ? "triangle-down" : "triangle-up")),
        opacity: 1,
        color: shown.map(([, name]) => (index.has(name) ? colourOf(index.get(name)) : "#7d8b93")),
        line: { width: shown.length > 40 ? 0 : 1, color: this.ground() },
      },
      customdata: shown.map(([line, name, time, value]) => escapeMarkup(
        `${name} ${this.config.thresholds[line][2]} ${this.config.thresholds[line][0]}: ${withUnit(value, this.config.unit)} at ${this.zone.clock(time)}`,
      )),
      meta: shown.map(([, name, time]) => [name, time]),
      hovertemplate: "%{customdata}<extra></extra>",
    }];
  }

  // Thresholds in view are drawn as lines; others are named at the edge they are beyond. The axis includes a
  // threshold whose distance from the data is at most the data's own range. Once included, it stays up to 1.5 times
  // that distance, so that it does not flicker.
  lines() {
    const { thresholds = [], scale } = this.config;
    const place = placed(scale);
    const exact = scales(this.config.unit) || this.config.facet; // Plotly has no ticks for these
    let [low, high] = [Infinity, -Infinity];
    for (const [i, { cells, held }] of thresholds.length || exact ? this.series.entries() : []) {
      if (this.hidden.has(this.idOf(i)) || (this.panels && i === this.others)) continue;
      for (const [least, most] of held ? [held.cell, ...cells.values()] : cells.values()) {
        for (const at of [place(least), place(most)]) if (at > -Infinity) [low, high] = [Math.min(low, at), Math.max(high, at)];
      }
    }
    if (low > high) return { inside: [], outside: [], range: null };
    if (scale === "zero") [low, high] = [Math.min(0, low), Math.max(0, high)];
    const reach = high - low || Math.abs(high) / 2 || 1;
    const found = thresholds.map(([name, value]) => [name, value, place(value)]);
    for (const [name, , at] of found) {
      const away = Math.max(at - high, low - at) / reach;
      if (away <= (this.near.has(name) ? 1.5 : 1)) this.near.add(name);
      else this.near.delete(name);
    }
    const seen = found.filter(([name]) => this.near.has(name));
    const [from, to] = [Math.min(low, ...seen.map(([, , at]) => at)), Math.max(high, ...seen.map(([, , at]) => at))];
    const spare = (to - from || reach) * 0.07;
    const room = (end) => (scale === "zero" && end === 0 ? 0 : spare);
    const range = this.zoom.y ?? (exact || seen.some(([, , at]) => at < low || at > high) ? [from - room(from), to + room(to)] : null);
    const [bottom, top] = this.zoom.y ?? [from, to];
    const inside = found.filter(([, , at]) => at >= bottom && at <= top);
    return { inside, outside: found.filter((line) => !inside.includes(line)).map(([name, value, at]) => [name, value, at > top]), range };
  }

  ground() {
    return getComputedStyle(this.parent).getPropertyValue("--st-background-color").trim() || "#fff";
  }

  // The bins of a series in a period, in order, with positions on the axis. Within a zoomed range, the finer bins.
  stretches(i, { k, from, to, shift }) {
    const { cells, nulls, sorted } = this.series[i];
    let bins = [...cells.keys()];
    if (!sorted) bins.sort((a, b) => a - b);
    if (this.config.compare) {
      to = k ? to : this.now;
      const within = (time) => time >= from && time < to;
      bins = bins.filter((bin) => within(bin * this.step));
      return [{ bins, cells, nulls, within, step: this.step, at: (bin) => this.local(Math.min((bin + 0.5) * this.step, to) + shift) }];
    }
    const at = (step) => (bin) => AxisTime.of((bin + 0.5) * step - this.offset);
    if (!this.finer) return [{ bins, cells, nulls, step: this.step, at: at(this.step), within: () => true }];
    const { step, rows } = this.finer;
    const own = rows.get(i) ?? new Map();
    const inside = [...own.keys()].filter((bin) => bin * step >= this.oldest * this.step).sort((a, b) => a - b);
    const [start, end] = [(this.finer.from * step) / this.step, (this.finer.to * step) / this.step];
    return [
      { bins: bins.filter((bin) => bin + 1 <= start), cells, nulls, step: this.step, at: at(this.step), within: (time) => time < start * this.step },
      { bins: inside, cells: own, nulls: this.finer.nulls.get(i), step, at: at(step), within: () => true },
      { bins: bins.filter((bin) => bin >= end), cells, nulls, step: this.step, at: at(this.step), within: (time) => time >= end * this.step },
    ];
  }

  points(i, period) {
    if (i === this.others) return this.band(i, period);
    if (this.config.steps) return this.steps(i, period);
    const { unit } = this.config;
    const x = [], y = [], customdata = [];
    for (const { bins, cells, nulls, at, step } of this.stretches(i, period)) {
      const broken = this.breaks(nulls, step);
      const add = (bin, value, text) => (x.push(at(bin)), y.push(value), customdata.push(text));
      bins.forEach((bin, i) => {
        const cell = cells.get(bin);
        const [low, high] = cell;
        const text = textOf(cell, unit);
        const apart = i > 0 && broken(bins[i - 1], bin);
        if (apart) add((bin + bins[i - 1]) / 2, null, "");
        add(bin, low, text);
        if (high !== low) add(bin, high, text);
        else if ((apart || i === 0) && (i + 1 === bins.length || broken(bin, bins[i + 1]))) add(bin + 1.5, low, text); // alone: a dash
      });
    }
    return { x, y, customdata };
  }

  // Like points(), for values that hold until the next one, and until now.
  steps(i, period) {
    const { compare, unit } = this.config;
    const points = this.stepPoints(i, period);
    const at = compare ? (time) => this.local(time + period.shift) : (time) => AxisTime.of(time - this.offset);
    return {
      x: points.map(([time]) => at(time)),
      y: points.map(([, value]) => value),
      customdata: points.map(([, value, cell]) => (cell ? textOf(cell, unit) : value === null ? "" : escapeMarkup(withUnit(value, unit)))),
    };
  }

  // [time in ms, value, cell], see steps.js.
  stepPoints(i, period) {
    const { compare, window } = this.config;
    const [from, end] = compare ? [period.from, period.k ? period.to : this.now] : [this.now - window, this.now];
    const events = [];
    for (const { bins, cells, nulls = [], step, within } of this.stretches(i, period)) {
      for (const bin of bins) events.push([(bin + 0.5) * step, cells.get(bin)]);
      for (const bin of nulls) if (within((bin + 0.5) * step)) events.push([(bin + 0.5) * step, null]);
    }
    for (const [start] of this.config.gaps ?? []) if (start > from) events.push([start, null]);
    const held = compare ? this.earlier(i, from) : this.series[i].held;
    const begin = held ? Math.max(from, (held.bin + 0.5) * this.step) : from;
    return steps(events, held?.cell ?? null, begin, end);
  }

  // The value that a series holds at a time, as a cell; null if it holds none.
  heldAt(i, time) {
    const value = this.stepPoints(i, this.periods()[0]).findLast(([at]) => at <= time)?.[1] ?? null;
    return value === null ? null : [value, value];
  }

  rangeText([low, high]) {
    return rangeText(low, high, this.config.unit);
  }

  // The value that a series holds at the beginning of a period.
  earlier(i, from) {
    const { cells, nulls, held } = this.series[i];
    const before = { cells: new Map(cells), nulls: new Set(nulls), held };
    leave(before, from / this.step);
    return before.held;
  }

  // True if a line breaks between two bins with values: at a null, or where messages are missing. A pause is no
  // break, because nothing says that anything was lost.
  breaks(missing, step) {
    const nulls = [...(missing ?? [])].map((bin) => (bin + 0.5) * step);
    const gaps = this.config.gaps ?? [];
    if (!nulls.length && !gaps.length) return () => false;
    return (before, after) => {
      if (after - before < 2) return false;
      const [from, to] = [(before + 1) * step, after * step];
      return nulls.some((time) => time > from && time < to) || gaps.some(([start, end]) => end > from && start < to);
    };
  }

  // The area between minima and maxima, a new one after each pause.
  band(i, period) {
    const { unit } = this.config;
    const x = [], y = [], customdata = [];
    for (const { bins, cells, nulls, at, step } of this.stretches(i, period)) {
      const broken = this.breaks(nulls, step);
      const add = (bin, value, text) => (x.push(at(bin)), y.push(value), customdata.push(text));
      for (let start = 0, end; start < bins.length; start = end) {
        for (end = start + 1; end < bins.length && !broken(bins[end - 1], bins[end]); ) end++;
        const run = bins.slice(start, end);
        if (x.length) add(run[0], null, "");
        const first = run[0], last = run.at(-1);
        const edge = (bin, by, side) => add(bin + by, cells.get(bin)[side], textOf(cells.get(bin), unit));
        edge(first, -0.5, 0);
        for (const bin of run) edge(bin, 0, 0);
        edge(last, 0.5, 0);
        edge(last, 0.5, 1);
        for (const bin of run.reverse()) edge(bin, 0, 1);
        edge(first, -0.5, 1);
      }
    }
    const line = { width: 1, color: "rgba(125, 139, 147, 0.5)" };
    return { x, y, customdata, mode: "lines", hoveron: "points", fill: "toself", fillcolor: "rgba(125, 139, 147, 0.2)", line };
  }

  // A time as text for Plotly, which would shift a number by the zone's offset at that time: the line would run
  // backwards when summer time ends. All times use the offset of now. In a comparison it is the offset at the current
  // period's start, so that a day begins at 00:00.
  local(ms) {
    return new Date(ms - this.offset).toISOString().slice(0, -1);
  }

  // The reverse: ms since the epoch for a time on the axis.
  utc(time) {
    return parsed(time) + this.offset;
  }

  // Apply the zone's current offset, since the zone or its offset may have changed. A zoomed range keeps its times.
  settleZone() {
    const offset = this.zone.offset(this.reference());
    if (offset === this.offset) return;
    const times = this.offset === undefined || this.config.compare ? null : this.zoomedTimes();
    this.offset = offset;
    if (times) this.zoom.x = times.map((ms) => this.local(ms));
  }

  reference() {
    return this.config.compare?.starts[0] ?? this.now;
  }

  // In a comparison, a zoomed range is part of a period. When the next period begins, the range moves along.
  keepZoom() {
    const start = this.config.compare && this.reference() - this.offset;
    const moved = (time) => new Date(parsed(time) + start - this.start).toISOString().slice(0, -1);
    if (this.zoom.x && start && this.start && start !== this.start) this.zoom.x = this.zoom.x.map(moved);
    this.start = start;
  }

  layout() {
    const style = getComputedStyle(this.parent);
    const text = style.getPropertyValue("--st-text-color").trim() || style.color;
    const soft = style.getPropertyValue("--st-border-color-light").trim() || style.getPropertyValue("--st-border-color").trim() || "#8884";
    const ground = this.ground();
    const { compare } = this.config;
    const live = this.shown;
    const empty = !this.series.some((series) => this.isKnown(series));
    const gaps = (this.config.gaps ?? []).filter(([, end]) => end > this.now - this.config.window);
    const missing = this.periods().filter(({ k, name }) => !name || !this.hidden.has(k)).flatMap(({ from, to, shift, name }) =>
      gaps.filter(([start, end]) => end > from && start < to)
        .map(([start, end, word = "missing"]) => [Math.max(start, from) + shift, Math.min(end, to) + shift, `${word}${name && `, ${name}`}`]));
    const width = this.parent.clientWidth || undefined;
    const shown = this.zoom.x ? new Date(this.zoom.x[1]) - new Date(this.zoom.x[0]) : live[1] - live[0];
    const wide = (ms) => (ms / shown) * (width ?? 300) > 60; // room for a word
    const { inside, outside, range } = this.lines();
    const called = ([name, at]) => escapeMarkup(`${name} ${withUnit(at, this.config.unit)}`);
    const word = {
      // On the left, where it covers the oldest values instead of the newest.
      x: 0, xref: "paper", xanchor: "left", showarrow: false, font: { size: 11, color: ALERT }, bgcolor: ground, borderpad: 0,
      opacity: 0.9,
    };
    const notes = [];
    if (empty) notes.push([this.config.empty, 0.5, 0.5, "center"]);
    return {
      autosize: !width,
      width,
      height: this.config.height,
      margin: { l: 52, r: 10, t: 10, b: 36 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 12, color: text },
      hoverdistance: this.config.steps ? -1 : 20, // values that hold have a tip at any distance
      hovermode: this.series.length * this.periods().length > 8 ? "closest" : "x unified",
      hoverlabel: { bgcolor: ground, bordercolor: soft, font: { color: text, size: 12 }, namelength: 40 },
      dragmode: "zoom",
      showlegend: false,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: text },
      xaxis: {
        type: "date",
        range: [...(this.zoom.x ?? live.map((ms) => this.local(ms)))], // Plotly writes into it
        autorange: false,
        gridcolor: soft,
        linecolor: soft,
        zeroline: false,
        hoverformat: (!compare ? "%Y-%m-%d " : live[1] - live[0] > LONG_DAY ? "%a " : "") + "%H:%M:%S" + ((this.finer?.step ?? this.step) < 1000 ? ".%L" : ""),
        tickformatstops: compare && ticks(live[1] - live[0]),
        showspikes: Boolean(compare), // other charts have the line of crosshair.js
        spikethickness: 1,
        spikedash: "solid",
        spikecolor: soft,
      },
      yaxis: {
        ...(this.zoom.y ?? range ? { range: [...(this.zoom.y ?? range)], autorange: false } : { autorange: true }),
        ...valueAxis(this.config.scale),
        visible: !empty,
        gridcolor: soft,
        zeroline: false,
        exponentformat: "SI",
        ticksuffix: scales(this.config.unit) ? "" : escapeMarkup(behind(unitName(this.config.unit))),
        ...ticksOf(this.zoom.y ?? range, this.config.scale, this.config.unit),
        automargin: true,
        ticklabeloverflow: "allow", // saves Plotly the check whether a label reaches beyond the plot
        nticks: 6,
      },
      // Missing data is shaded: an empty stretch alone could also mean that nothing happened.
      shapes: missing.map(([start, end, which]) => ({
        type: "rect", layer: "below", yref: "paper", y0: 0, y1: 1, line: { width: 0 }, fillcolor: "rgba(224, 122, 48, 0.18)",
        x0: this.local(start), x1: this.local(Math.max(end, start + this.step)),
        label: { text: wide(end - start) ? which : "", textposition: "top center", font: { size: 10 } },
      })).concat(compare ? [{
        type: "line", yref: "paper", y0: 0, y1: 1, x0: this.local(this.now), x1: this.local(this.now), line: { width: 1, color: text },
        label: { text: this.config.still || "now", textposition: "end", textangle: 0, xanchor: this.now * 2 > live[0] + live[1] ? "right" : "left", yanchor: "top", font: { size: 10 } },
      }] : [], inside.map((line) => ({
        type: "line", layer: "above", xref: "paper", x0: 0, x1: 1, y0: line[1], y1: line[1], line: { width: 1, dash: "dash", color: ALERT },
      }))),
      annotations: [...notes.map(([text, x, y, xanchor]) => ({ text, x, y, xanchor, xref: "paper", yref: "paper", showarrow: false })),
        ...inside.map((line) => ({ text: called(line), y: line[2], yref: "y", yanchor: "bottom", ...word })),
        ...outside.map((line, i) => ({
          text: line[2] ? `↑ ${called(line)} above` : `↓ ${called(line)} below`, y: line[2] ? 1 : 0, yref: "paper",
          yanchor: line[2] ? "top" : "bottom", yshift: (line[2] ? -15 : 15) * i, ...word,
        }))],
    };
  }
}

function forget(cells, from, to) {
  for (const bin of cells.keys()) if (bin < from || bin >= to) cells.delete(bin);
}

// Choices as text, for comparison.
const spelledOut = ({ rule, names, value }) => JSON.stringify([rule, value, [...names].sort()]);

const LONG_DAY = 25 * 3600000; // ms
const rangeText = (low, high, unit) => `${roughUnit(low, scales(unit) ? unit : "")} to ${roughUnit(high, unit)}`;

// A cell's values as text, cached in the cell: most cells do not change between refreshes.
function textOf(cell, unit) {
  if (cell.unit !== unit) {
    const [low, high] = cell;
    cell.text = escapeMarkup(low === high ? withUnit(low, unit) : rangeText(low, high, unit));
    cell.unit = unit;
  }
  return cell.text;
}

// Axis labels of a comparison: clock times within a day, weekdays within a week or two.
function ticks(length) {
  const day = length > 15 * 24 * 3600000 ? "%d %b" : "%a";
  return [
    { dtickrange: [null, 1000], value: "%H:%M:%S.%L" },
    { dtickrange: [1000, 60000], value: "%H:%M:%S" },
    { dtickrange: [60000, 86400000 - 1], value: length > LONG_DAY ? `%H:%M\n${day}` : "%H:%M" },
    { dtickrange: [86400000, null], value: day },
  ];
}

// Draw the charts that were sent before this file was loaded. A newer version of this file takes over.
const waiting = Array.isArray(self.lookback_chart) ? self.lookback_chart : [];
self.lookback_chart = { push: ([component, done]) => done(draw(component)) };
waiting.forEach(self.lookback_chart.push);

export { ticks }; // for the tests
