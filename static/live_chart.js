// The live chart: keeps the bins that it was sent, and draws them with Plotly.
//
// A message says from which version (a) to which (v) it leads. One that starts later than what this chart
// holds, or belongs to another epoch (e), cannot be applied; the chart then asks once for everything.
// Its layout is described in nats_client/bins.py.

const COLOURS = [
  "#0f8aa3", "#e0782f", "#7a5cc0", "#4b9e3f", "#cf4a5f", "#a07b45", "#4c7bd9", "#c99a12", "#7d8b93", "#cc68a8",
];
const GAP = 10; // a line breaks where a series pauses for this many times its usual spacing

let plotly;
function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    if (window.Plotly) return resolve(window.Plotly);
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", import.meta.url);
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly.min.js could not be loaded"));
    document.head.append(script);
  });
  return plotly;
}

export async function draw({ data, parentElement, setTriggerValue }) {
  const chart = (parentElement.lookback ??= new Chart(parentElement));
  chart.receive(data, setTriggerValue);
  chart.library ??= await loadPlotly();
  chart.draw();
}

class Chart {
  constructor(parent) {
    this.parent = parent;
    this.version = null;
    this.asked = false;
    this.series = [];
    this.zoom = { x: null, y: null };

    this.title = document.createElement("div");
    this.title.style.cssText = "font-weight:600;font-size:0.95rem;height:30px;line-height:30px";
    this.plot = document.createElement("div");
    this.plot.style.width = "100%";
    parent.replaceChildren(this.title, this.plot);

    this.redraw = () => this.draw();
    this.size = new ResizeObserver(() => this.library && this.drawn && this.draw());
    this.size.observe(parent);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
    document.addEventListener("visibilitychange", this.redraw);
  }

  end() {
    this.size.disconnect();
    this.scheme.removeEventListener("change", this.redraw);
    document.removeEventListener("visibilitychange", this.redraw);
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
      if (!this.asked) setTriggerValue("resync", Date.now());
      this.asked = true;
      return;
    }
    if (whole) {
      if (head.e !== this.epoch) this.series = [];
      this.epoch = head.e;
      this.config = head.config;
      this.asked = false;
      for (const series of this.series) series.cells.clear();
    }
    this.version = Math.max(head.v, whole ? 0 : this.version);
    this.step = head.s;
    this.oldest = head.o;
    this.more = head.m ?? 0;
    this.future = head.f ?? 0;
    for (const [i, name, base] of head.n) {
      this.series[i] ??= { name, base, cells: new Map(), sorted: true };
    }
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
    for (let i = 0; i < head.c; i++) {
      const { cells, base } = this.series[rows[i]];
      const bin = head.b + bins[i];
      if (!cells.has(bin)) this.series[rows[i]].sorted = false;
      cells.set(bin, [low[i] + base, high[i] + base]);
    }
  }

  draw() {
    if (!this.library || !this.config || this.ended || document.hidden) return;
    this.title.textContent = this.config.title;
    this.title.style.display = this.config.title ? "" : "none";
    const first = !this.drawn;
    this.drawn = true;
    this.library.react(this.plot, this.traces(), this.layout(), {
      displaylogo: false,
      displayModeBar: "hover",
      modeBarButtons: [["toImage", "resetScale2d"]],
      doubleClick: false,
      responsive: false,
    });
    if (!first) return;
    this.plot.on("plotly_relayout", (change) => this.zoomed(change));
    this.plot.on("plotly_doubleclick", () => {
      this.zoom = { x: null, y: null };
      this.draw();
    });
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
    const names = this.series.map((series) => series.name);
    const skip = sharedTokens(names);
    const order = [...names].sort(BY_NAME.compare);
    return this.series.map((series, i) => ({
      type: "scatter",
      mode: pointed ? "lines+markers" : "lines",
      uid: String(i),
      legendrank: order.indexOf(series.name),
      name: escapeMarkup(series.name.split(".").slice(skip).join(".")),
      line: { width: 1.5, color: COLOURS[i % COLOURS.length], dash: DASHES[Math.floor(i / COLOURS.length) % 4] },
      marker: { size: 4 },
      hovertemplate: "%{customdata}",
      ...this.points(series),
    }));
  }

  points({ cells, sorted }) {
    const bins = [...cells.keys()];
    if (!sorted) bins.sort((a, b) => a - b);
    const gap = breakAfter(bins);
    const x = [], y = [], customdata = [];
    const add = (bin, value, text) => (x.push(local((bin + 0.5) * this.step)), y.push(value), customdata.push(text));
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

  layout() {
    const style = getComputedStyle(this.parent);
    const text = style.getPropertyValue("--st-text-color").trim() || style.color;
    const soft = style.getPropertyValue("--st-border-color-light").trim() || style.getPropertyValue("--st-border-color").trim() || "#8884";
    const ground = style.getPropertyValue("--st-background-color").trim() || "#fff";
    const live = [local(this.now - this.config.window), local(this.now)];
    const empty = this.series.every((series) => series.cells.size === 0);
    const notes = [];
    if (empty) notes.push([this.config.empty, 0.5, 0.5, "center"]);
    if (this.more) notes.push([`${this.more} more series are not drawn`, 1, 1, "right"]);
    if (this.future) notes.push([`${this.future} rows with a time in the future are not drawn`, 0, 1, "left"]);
    const width = this.parent.clientWidth || undefined;
    return {
      autosize: !width,
      width,
      height: this.config.height,
      uirevision: "kept", // hidden series stay hidden
      margin: { l: 52, r: 10, t: 10, b: 44 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 12, color: text },
      hovermode: this.series.length > 8 ? "closest" : "x unified",
      hoverlabel: { bgcolor: ground, bordercolor: soft, font: { color: text, size: 12 }, namelength: 40 },
      dragmode: "zoom",
      showlegend: this.series.length > 1,
      legend: { orientation: "h", x: 0, y: -0.2, yanchor: "top", font: { size: 11 } },
      xaxis: {
        type: "date",
        range: this.zoom.x ?? live,
        autorange: false,
        gridcolor: soft,
        linecolor: soft,
        zeroline: false,
        hoverformat: "%Y-%m-%d %H:%M:%S" + (this.step < 1000 ? ".%L" : ""),
        title: { text: ZONE, font: { size: 10 }, standoff: 4 },
      },
      yaxis: {
        ...(this.zoom.y ? { range: this.zoom.y, autorange: false } : { autorange: true }),
        gridcolor: soft,
        zeroline: false,
        exponentformat: "SI",
        ticksuffix: escapeMarkup(this.config.unit),
        automargin: true,
        nticks: 6,
      },
      annotations: notes.map(([text, x, y, xanchor]) => ({ text, x, y, xanchor, xref: "paper", yref: "paper", showarrow: false })),
    };
  }
}

const DASHES = ["solid", "dash", "dot", "dashdot"];
const BY_NAME = new Intl.Collator("en", { numeric: true });
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

// Plotly draws dates as if all were UTC, so each time is moved by the zone's offset at that time.
function local(ms) {
  return ms - new Date(ms).getTimezoneOffset() * 60000;
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
