// The live chart: keeps the bins that it was sent, and draws them with Plotly.
//
// A message says from which version (a) to which (v) it leads. One that starts later than what this chart
// holds, or belongs to another epoch (e), cannot be applied; the chart then asks for everything.
// Its layout is described in nats_client/bins.py.

const COLOURS = [
  "#0f8aa3", "#e0782f", "#7a5cc0", "#4b9e3f", "#cf4a5f", "#a07b45", "#4c7bd9", "#c99a12", "#7d8b93", "#cc68a8",
];
const ASK_AGAIN = 5000; // ms after which an unanswered question is taken for lost
const ALERT = "#d6453d"; // thresholds and the words on them
const GAP = 10; // a line breaks where a series pauses for this many times its usual spacing

const STYLE = `
.lb-chart-title { font-weight: 600; font-size: 0.95rem; line-height: 30px; }
.lb-legend { display: flex; flex-wrap: wrap; gap: 0 14px; max-height: 92px; overflow-y: auto; padding: 2px 10px 4px 4px;
  font-size: 0.75rem; line-height: 1.55; }
.lb-legend button { all: unset; cursor: pointer; max-width: 100%; display: inline-flex; align-items: center; gap: 6px; }
.lb-legend button span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-legend button:focus-visible { outline: 2px solid var(--st-primary-color); }
.lb-legend button[aria-pressed="false"] { opacity: 0.4; text-decoration: line-through; }
.lb-legend i { flex: none; width: 16px; border-top: 2px solid; }
.lb-legend .lb-note { opacity: 0.65; }
.lb-legend .lb-zone { margin-left: auto; opacity: 0.65; }`;

let plotly;
function loadPlotly(file) {
  plotly ??= new Promise((resolve, reject) => {
    if (window.Plotly) return resolve(window.Plotly);
    const script = document.createElement("script");
    script.src = new URL(file, import.meta.url);
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = undefined; // so that the next refresh tries again
      reject(new Error(`${file} could not be loaded`));
    };
    document.head.append(script);
  });
  return plotly;
}

export async function draw({ data, parentElement, setTriggerValue }) {
  if (!parentElement.isConnected) return; // gone while this file was loading
  const chart = (parentElement.lookback ??= new Chart(parentElement));
  chart.receive(data, setTriggerValue);
  if (!chart.config) return;
  chart.library ??= await loadPlotly(chart.config.plotly);
  chart.draw();
}

class Chart {
  constructor(parent) {
    this.parent = parent;
    this.version = null;
    this.asked = -Infinity;
    this.series = [];
    this.zoom = { x: null, y: null };
    this.near = new Set(); // thresholds that the y axis makes room for

    this.hidden = new Set();

    const style = document.createElement("style");
    style.textContent = STYLE;
    this.title = element("div", "lb-chart-title");
    this.plot = element("div");
    this.legend = element("div", "lb-legend");
    parent.replaceChildren(style, this.title, this.plot, this.legend);

    this.redraw = () => this.draw();
    this.size = new ResizeObserver(() => this.library && this.drawn && this.draw());
    this.size.observe(parent);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
    document.addEventListener("visibilitychange", this.redraw);
    // A redraw in the middle of a drag would end it, so it waits for the pointer.
    this.plot.addEventListener("pointerdown", () => (this.held = true), { capture: true });
    this.release = () => {
      if (!this.held) return;
      this.held = false;
      setTimeout(this.redraw); // after Plotly has seen it too
    };
    window.addEventListener("pointerup", this.release);
    window.addEventListener("pointercancel", this.release);
  }

  end() {
    this.size.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    document.removeEventListener("visibilitychange", this.redraw);
    window.removeEventListener("pointerup", this.release);
    window.removeEventListener("pointercancel", this.release);
    if (this.drawn) this.library.purge(this.plot);
    this.ended = true;
    delete this.parent.lookback;
  }

  receive(data, setTriggerValue) {
    if (!(data instanceof Uint8Array)) return;
    const buffer = data.slice().buffer; // aligned, which a view into a larger message is not
    const size = new DataView(buffer).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
    const whole = head.a === 0;
    if (!whole && (head.e !== this.epoch || this.version === null || this.version < head.a)) {
      if (performance.now() - this.asked < ASK_AGAIN) return;
      this.asked = performance.now();
      setTriggerValue("resync", this.version ?? 0);
      return;
    }
    if (whole) {
      if (head.e !== this.epoch) this.series = [];
      this.epoch = head.e;
      this.asked = -Infinity;
      for (const series of this.series) series.cells.clear();
    }
    this.config = head.config ?? this.config;
    this.plot.style.height = `${this.config.height}px`; // before Plotly is there, so that the page does not jump
    this.version = Math.max(head.v, whole ? 0 : this.version);
    this.step = head.s;
    this.oldest = head.o;
    this.more = head.m ?? 0;
    this.future = head.f ?? 0;
    for (const [i, name] of head.n) this.series[i] ??= { name, cells: new Map(), sorted: true };
    this.apply(buffer, 4 + size, head);
    this.now = head.t;
    for (const series of this.series) {
      for (const bin of series.cells.keys()) if (bin < head.o) series.cells.delete(bin);
    }
  }

  apply(buffer, at, head) {
    const low = new Float32Array(buffer, at, head.c);
    const high = head.h ? new Float32Array(buffer, at + 4 * head.c, head.c) : low;
    at += 4 * head.c * (head.h ? 2 : 1);
    const bins = new Uint16Array(buffer, at, head.c);
    const rows = new Uint8Array(buffer, at + 2 * head.c, head.c);
    const bases = new Map(head.k);
    for (let i = 0; i < head.c; i++) {
      const { cells } = this.series[rows[i]];
      const bin = head.b + bins[i];
      const base = bases.get(rows[i]) ?? 0;
      if (!cells.has(bin)) this.series[rows[i]].sorted = false;
      if (low[i] === Infinity) cells.delete(bin);
      else cells.set(bin, [low[i] + base, high[i] + base]);
    }
  }

  draw() {
    if (!this.library || !this.config || this.ended || this.held || document.hidden) return;
    this.title.textContent = this.config.title;
    this.title.style.display = this.config.title ? "" : "none";
    const first = !this.drawn;
    this.drawn = true;
    this.drawLegend();
    // The very same object each time: Plotly takes another one for another chart, and builds it from nothing.
    this.settings ??= {
      displaylogo: false,
      displayModeBar: "hover",
      modeBarButtons: [[this.download(), "resetScale2d"]],
      doubleClick: false,
      responsive: false,
    };
    this.library.react(this.plot, this.traces(), this.layout(), this.settings);
    if (!first) return;
    this.plot.on("plotly_relayout", (change) => this.zoomed(change));
    this.plot.on("plotly_doubleclick", () => {
      this.zoom = { x: null, y: null };
      this.draw();
    });
  }

  // Our own below the chart: Plotly's takes its room from the lines, and half of it with a dozen series.
  drawLegend() {
    const shown = this.series.map((series, i) => [i, series.name]).sort((a, b) => BY_NAME.compare(a[1], b[1]));
    const unmarked = this.config.marks?.more;
    const state = JSON.stringify([shown, [...this.hidden], this.more, this.future, unmarked, zone(this.now)]);
    if (state === this.legendState) return; // a button that is being clicked stays
    this.legendState = state;
    const names = this.shortNames();
    const keys = shown.length < 2 ? [] : shown.map(([i, name]) => {
      const key = element("button");
      key.type = "button";
      key.title = name;
      key.setAttribute("aria-pressed", !this.hidden.has(name));
      const line = element("i");
      line.style.borderTop = `2px ${BORDERS[dashOf(i)]} ${colourOf(i)}`;
      key.append(line, element("span", "", names[i]));
      key.onclick = () => this.toggle(name);
      key.ondblclick = () => this.only(name);
      return key;
    });
    if (this.more) keys.push(element("span", "lb-note", `+ ${this.more} more series not drawn`));
    if (this.future) keys.push(element("span", "lb-note", `${this.future} rows with a time in the future not drawn`));
    if (unmarked) keys.push(element("span", "lb-note", `${short(unmarked)} earlier crossings not marked`));
    this.legend.replaceChildren(...keys, element("span", "lb-zone", zone(this.now)));
  }

  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.draw();
  }

  // Alone, or all again when it is alone already.
  only(name) {
    const others = this.series.map((series) => series.name).filter((other) => other !== name);
    this.hidden = new Set(others.every((other) => this.hidden.has(other)) ? [] : others);
    this.draw();
  }

  // A picture for elsewhere needs what is HTML here: title, legend, background.
  download() {
    const click = () => {
      const layout = this.layout();
      const ground = layout.hoverlabel.bgcolor;
      const title = { text: escapeMarkup(this.config.title), font: { size: 15 } };
      this.library.downloadImage(
        {
          data: this.traces().filter((trace) => trace.visible === true),
          layout: {
            ...layout, title, paper_bgcolor: ground, plot_bgcolor: ground, showlegend: true,
            margin: { ...layout.margin, t: title.text ? 50 : 20 }, height: layout.height + 120,
            legend: { orientation: "h", y: -0.15, yanchor: "top" },
          },
        },
        { format: "png", scale: 2, height: layout.height + 120, width: this.parent.clientWidth, filename: "chart" },
      );
    };
    return { name: "picture", title: "Download as PNG", icon: this.library.Icons.camera, click };
  }

  shortNames() {
    const names = this.series.map((series) => series.name);
    const skip = sharedTokens(names);
    return names.map((name) => name.split(".").slice(skip).join("."));
  }

  zoomed(change) {
    for (const axis of ["x", "y"]) {
      const name = `${axis}axis`;
      if (change[`${name}.autorange`]) this.zoom[axis] = null;
      else if (`${name}.range[0]` in change) {
        this.zoom[axis] = [change[`${name}.range[0]`], change[`${name}.range[1]`]];
      }
    }
    if (change["xaxis.autorange"] || change["yaxis.autorange"]) this.draw();
  }

  traces() {
    const pointed = this.series.some((series) => series.cells.size > 0 && series.cells.size < 3);
    const names = this.shortNames();
    return [...this.series.map((series, i) => ({
      type: "scatter",
      mode: pointed ? "lines+markers" : "lines",
      uid: String(i),
      name: escapeMarkup(names[i]),
      visible: this.hidden.has(series.name) ? "legendonly" : true,
      line: { width: 1.5, color: colourOf(i), dash: dashOf(i) },
      marker: { size: 4 },
      hovertemplate: "%{customdata}",
      ...this.points(series),
    })), ...this.marks()];
  }

  // Where a line rose above a threshold, in the line's colour.
  marks() {
    const { names = [], at = [] } = this.config.marks ?? {};
    const index = new Map(this.series.map((series, i) => [series.name, i]));
    const start = this.now - this.config.window;
    const shown = at.filter(([, name, time]) => time >= start && !this.hidden.has(names[name]));
    if (!shown.length) return [];
    const unit = this.config.unit && ` ${this.config.unit}`;
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
        symbol: "triangle-up",
        opacity: 1,
        color: shown.map(([, name]) => (index.has(names[name]) ? colourOf(index.get(names[name])) : "#7d8b93")),
        line: { width: shown.length > 40 ? 0 : 1, color: this.ground() },
      },
      customdata: shown.map(([line, name, time, value]) => escapeMarkup(
        `${names[name]} above ${this.config.thresholds[line][0]}: ${short(value)}${unit} at ${CLOCK.format(time)}`,
      )),
      hovertemplate: "%{customdata}<extra></extra>",
    }];
  }

  // Thresholds in view are drawn as lines, the others named at the edge that they lie beyond. The axis makes
  // room for one that is no further from the data than these reach; a little more, once it has, so that it does
  // not come and go.
  lines() {
    const thresholds = this.config.thresholds ?? [];
    let [low, high] = [Infinity, -Infinity];
    for (const series of thresholds.length ? this.series : []) {
      if (this.hidden.has(series.name)) continue;
      for (const [least, most] of series.cells.values()) [low, high] = [Math.min(low, least), Math.max(high, most)];
    }
    if (low > high) return { inside: [], outside: [], range: null };
    const reach = high - low || Math.abs(high) / 2 || 1;
    for (const [name, at] of thresholds) {
      const away = Math.max(at - high, low - at) / reach;
      if (away <= (this.near.has(name) ? 1.5 : 1)) this.near.add(name);
      else this.near.delete(name);
    }
    const seen = thresholds.filter(([name]) => this.near.has(name));
    const [from, to] = [Math.min(low, ...seen.map(([, at]) => at)), Math.max(high, ...seen.map(([, at]) => at))];
    const spare = (to - from || reach) * 0.07;
    const range = this.zoom.y ?? (seen.some(([, at]) => at < low || at > high) ? [from - spare, to + spare] : null);
    const [bottom, top] = this.zoom.y ?? [from, to];
    const inside = thresholds.filter(([, at]) => at >= bottom && at <= top);
    return { inside, outside: thresholds.filter((line) => !inside.includes(line)).map(([name, at]) => [name, at, at > top]), range };
  }

  ground() {
    return getComputedStyle(this.parent).getPropertyValue("--st-background-color").trim() || "#fff";
  }

  points({ cells, sorted }) {
    const bins = [...cells.keys()];
    if (!sorted) bins.sort((a, b) => a - b);
    const gap = breakAfter(bins);
    const x = [], y = [], customdata = [];
    const add = (bin, value, text) => (x.push(this.local((bin + 0.5) * this.step)), y.push(value), customdata.push(text));
    bins.forEach((bin, i) => {
      const [low, high] = cells.get(bin);
      const text = (low === high ? short(low) : `${short(low)} to ${short(high)}`) + ` ${escapeMarkup(this.config.unit)}`;
      const apart = i > 0 && bin - bins[i - 1] > gap;
      if (apart) add((bin + bins[i - 1]) / 2, null, "");
      add(bin, low, text);
      if (high !== low) add(bin, high, text);
      else if ((apart || i === 0) && !(bins[i + 1] - bin <= gap)) add(bin + 1.5, low, text); // alone: a dash
    });
    return { x, y, customdata };
  }

  // Plotly draws dates as if all were UTC, so times are moved by the zone's offset. It is today's for all of
  // them, and the axis says which: with each time's own the line would run backwards when summer ends.
  local(ms) {
    return ms - new Date(this.now).getTimezoneOffset() * 60000;
  }

  layout() {
    const style = getComputedStyle(this.parent);
    const text = style.getPropertyValue("--st-text-color").trim() || style.color;
    const soft = style.getPropertyValue("--st-border-color-light").trim() || style.getPropertyValue("--st-border-color").trim() || "#8884";
    const ground = this.ground();
    const live = [this.local(this.now - this.config.window), this.local(this.now)];
    const empty = this.series.every((series) => series.cells.size === 0);
    const missing = (this.config.gaps ?? []).filter(([, end]) => end > this.now - this.config.window);
    const width = this.parent.clientWidth || undefined;
    const shown = this.zoom.x ? new Date(this.zoom.x[1]) - new Date(this.zoom.x[0]) : this.config.window;
    const wide = (ms) => (ms / shown) * (width ?? 300) > 60; // room for a word
    const { inside, outside, range } = this.lines();
    const called = ([name, at]) => escapeMarkup(`${name} ${short(at)} ${this.config.unit}`.trim());
    const word = {
      x: 1, xref: "paper", xanchor: "right", showarrow: false, font: { size: 11, color: ALERT }, bgcolor: ground, borderpad: 0,
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
      hovermode: this.series.length > 8 ? "closest" : "x unified",
      hoverlabel: { bgcolor: ground, bordercolor: soft, font: { color: text, size: 12 }, namelength: 40 },
      dragmode: "zoom",
      showlegend: false,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: text },
      xaxis: {
        type: "date",
        range: this.zoom.x ?? live,
        autorange: false,
        gridcolor: soft,
        linecolor: soft,
        zeroline: false,
        hoverformat: "%Y-%m-%d %H:%M:%S" + (this.step < 1000 ? ".%L" : ""),
        spikethickness: 1,
        spikedash: "solid",
        spikecolor: soft,
      },
      yaxis: {
        ...(this.zoom.y ?? range ? { range: this.zoom.y ?? range, autorange: false } : { autorange: true }),
        visible: !empty,
        gridcolor: soft,
        zeroline: false,
        exponentformat: "SI",
        ticksuffix: escapeMarkup(this.config.unit),
        automargin: true,
        nticks: 6,
      },
      // What is missing is shaded: an empty stretch alone could as well mean that nothing happened.
      shapes: [...missing.map(([start, end]) => ({
        type: "rect", layer: "below", yref: "paper", y0: 0, y1: 1, line: { width: 0 }, fillcolor: "rgba(224, 122, 48, 0.18)",
        x0: this.local(start), x1: this.local(Math.max(end, start + this.step)),
        label: { text: wide(end - start) ? "missing" : "", textposition: "top center", font: { size: 10 } },
      })), ...inside.map((line) => ({
        type: "line", layer: "above", xref: "paper", x0: 0, x1: 1, y0: line[1], y1: line[1], line: { width: 1, dash: "dash", color: ALERT },
      }))],
      annotations: [...notes.map(([text, x, y, xanchor]) => ({ text, x, y, xanchor, xref: "paper", yref: "paper", showarrow: false })),
        ...inside.map((line) => ({ text: called(line), y: line[1], yref: "y", yanchor: "bottom", ...word })),
        ...outside.map((line, i) => ({
          text: line[2] ? `↑ ${called(line)} above` : `↓ ${called(line)} below`, y: line[2] ? 1 : 0, yref: "paper",
          yanchor: line[2] ? "top" : "bottom", yshift: (line[2] ? -15 : 15) * i, ...word,
        }))],
    };
  }
}

const DASHES = ["solid", "dash", "dot", "dashdot"];
const BORDERS = { solid: "solid", dash: "dashed", dot: "dotted", dashdot: "double" };
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const BY_NAME = new Intl.Collator("en", { numeric: true });
const colourOf = (i) => COLOURS[i % COLOURS.length];
const dashOf = (i) => DASHES[Math.floor(i / COLOURS.length) % DASHES.length];

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
// "Europe/Berlin, GMT+1"
function zone(now) {
  const format = new Intl.DateTimeFormat("en", { timeZoneName: "shortOffset" });
  const offset = format.formatToParts(now).find((part) => part.type === "timeZoneName").value;
  return `${format.resolvedOptions().timeZone}, ${offset}`;
}

function breakAfter(bins) {
  if (bins.length < 3) return Infinity;
  const spacing = bins.slice(1).map((bin, i) => bin - bins[i]).sort((a, b) => a - b);
  return Math.max(3, GAP * spacing[spacing.length >> 1]);
}

// How many leading tokens all names share: they tell the lines apart no better in the legend.
function sharedTokens(names) {
  const [first, ...rest] = names.map((name) => name.split("."));
  if (!rest.length) return 0;
  let count = 0;
  while (count < first.length - 1 && rest.every((t) => t.length > count + 1 && t[count] === first[count])) count++;
  return count;
}

// Names come from NATS and are data; Plotly would read some HTML in them.
function escapeMarkup(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 7 });
function short(value) {
  return NUMBER.format(value);
}
