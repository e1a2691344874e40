// One number against another, a point per row. components/charts/scatter_chart.py sends it.
//
// Plotly draws the axes and zooms. It would take a large part of a second for thousands of points, so they are drawn
// on a canvas above it.

import { placed } from "./axis.js";
import { showBehind } from "./behind.js";
import { define, Element, made, say } from "./element.js";
import { LEGEND_STYLE } from "./legend.js";
import { COLOURS } from "./line_looks.js";
import { escapeMarkup, loadPlotly } from "./plotly.js";
import { BY_NAME } from "./series_names.js";
import { short } from "./units.js";

const REST = "#9aa4a8"; // colour of points whose group has no colour of its own
const OTHERS = "\n"; // the id of these points among the hidden groups; no group has this name
const [SIZE, OPACITY] = [2.5, 0.6]; // px; of a point
const SECOND_CLICK = 320; // ms in which a second click makes it a double click, which resets the zoom
const NEAR = 12; // px around the pointer within which a point is named
const COLUMNS = ["x", "y", "of"];
const SCATTER = `
.lb-scatter { position: relative; }
.lb-scatter canvas { position: absolute; pointer-events: none; }
.lb-scatter .lb-tip { position: absolute; pointer-events: none; z-index: 2; max-width: 60%; padding: 2px 7px; font-size: 0.75rem;
  overflow-wrap: anywhere; white-space: pre-line; border: 1px solid var(--st-border-color, #8884); border-radius: 3px;
  color: var(--st-text-color, #222); background: var(--st-background-color, #fff); }
.lb-scatter i.lb-dot { width: 9px; height: 9px; border: 0; border-radius: 50%; }`;

export class Scatter extends Element {
  build() {
    this.zoom = { x: null, y: null };
    this.hidden = new Set();
    this.plot = made("div");
    this.canvas = made("canvas");
    this.tip = made("div", "lb-tip");
    this.tip.hidden = true;
    this.legend = made("div", "lb-legend");
    this.keys = made("div", "lb-keys");
    this.note = made("div", "lb-note");
    this.legend.append(this.keys, this.note);
    this.root.append(this.plot, this.canvas, this.tip, this.legend);
    this.root.lookback = this; // for the tests

    this.again = () => this.due();
    this.size = new ResizeObserver(this.again);
    this.size.observe(this.root);
    this.place = new IntersectionObserver(([{ isIntersecting }]) => {
      this.away = !isIntersecting;
      if (isIntersecting) this.due();
    }, { rootMargin: "200px" });
    this.place.observe(this.root);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.again);
    // New axes during a drag would end it.
    this.plot.addEventListener("pointerdown", ({ button, clientX, clientY }) => {
      this.held = true;
      this.pressed = button ? null : [clientX, clientY];
      clearTimeout(this.clicked);
    }, { capture: true });
    this.release = ({ type, clientX, clientY }) => {
      if (!this.held) return;
      setTimeout(this.again); // after Plotly has seen it too
      this.held = false;
      if (!this.pressed || type !== "pointerup") return;
      const moved = Math.hypot(clientX - this.pressed[0], clientY - this.pressed[1]);
      const point = moved < 4 && this.nearest([clientX, clientY]);
      if (!point) return;
      const said = { point: this.content.first + point.i };
      this.clicked = setTimeout(() => showBehind(this.root, this.number, said), SECOND_CLICK);
    };
    window.addEventListener("pointerup", this.release);
    window.addEventListener("pointercancel", this.release);
    this.plot.addEventListener("pointermove", ({ clientX, clientY }) => {
      this.pointer = [clientX, clientY];
      this.name();
    });
    this.plot.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.name();
    });
  }

  end() {
    this.size.disconnect();
    this.place.disconnect();
    this.scheme.removeEventListener("change", this.again);
    window.removeEventListener("pointerup", this.release);
    window.removeEventListener("pointercancel", this.release);
    clearTimeout(this.clicked);
    if (this.axes) this.library.purge(this.plot);
  }

  get state() { return { zoom: this.zoom, hidden: this.hidden }; }
  set state(state) { Object.assign(this, state); }

  // Appends new points to the known ones, and drops the oldest.
  merged(known, news) {
    const content = super.merged(known, news);
    const gone = content.first - (known.first ?? content.first);
    for (const column of COLUMNS) content[column] = [...(known[column] ?? []).slice(gone), ...(news[column] ?? [])]; // empty: not sent
    return content;
  }

  draw() {
    const drawn = Boolean(this.axes);
    if (drawn && this.away) return;
    if (!this.library) {
      this.plot.style.height = `${this.settings.height}px`;
      // The next message tries again.
      loadPlotly(this.settings.plotly).then((library) => (this.library = library) && this.due(), () => {});
      return;
    }
    const { x, groups } = this.content;
    this.sort();
    const { most } = this.settings;
    const none = "No row within the look-back has both numbers.";
    const notes = x.length >= most ? [`The newest ${short(most)} points`] : [];
    const unfit = this.settings.log.some(Boolean) ? x.filter((_, i) => !this.at(i).every(Number.isFinite)).length : 0;
    if (unfit) notes.push(`${short(unfit)} with zero or a negative number are off the logarithmic axis`);
    say(this.note, !x.length ? none : notes.join("; "));
    this.drawLegend(groups ?? []);
    const layout = this.layout();
    const state = JSON.stringify(layout);
    if (state !== this.axes && !this.held) {
      this.axes = state;
      this.library.react(this.plot, [{ type: "scatter", x: [], y: [] }], layout, (this.options ??= this.configuration()));
    }
    if (!drawn) {
      this.plot.on("plotly_relayout", (change) => this.zoomed(change));
      this.plot.on("plotly_relayouting", () => this.paint());
      this.plot.on("plotly_doubleclick", () => this.resetZoom());
    }
    this.paint();
    this.name();
  }

  // The points in sets by colour. `id` is the key under which a viewer hides a set.
  sort() {
    const { x, of, groups } = this.content;
    const sets = (groups ?? [null]).map((group, i) => ({ id: group?.[1] ?? "", colour: COLOURS[i], points: [] }));
    const others = { id: groups ? OTHERS : "", colour: REST, points: [] };
    const place = new Map((groups ?? []).flatMap((group, i) => (group ? [[group[0], sets[i]]] : [])));
    for (let i = 0; i < x.length; i++) (groups ? (place.get(of[i]) ?? others) : sets[0]).points.push(i);
    this.sets = [others, ...sets];
  }

  get shown() {
    return this.sets.filter(({ id }) => !this.hidden.has(id));
  }

  drawLegend(groups) {
    const names = groups.flatMap((group, i) => (group ? [[group[1], group[1], COLOURS[i]]] : []));
    names.sort(([one], [other]) => BY_NAME.compare(one, other));
    if (groups.length && this.sets[0].points.length) names.push([OTHERS, "others", REST]);
    const state = JSON.stringify([names, [...this.hidden]]);
    if (state === this.legendState) return; // rebuilding would lose a click in progress
    this.legendState = state;
    this.keys.replaceChildren(...names.map(([id, name, colour]) => {
      const [key, dot] = [made("button"), made("i", "lb-dot")];
      key.type = "button";
      key.title = name;
      key.setAttribute("aria-pressed", !this.hidden.has(id));
      dot.style.background = colour;
      key.append(dot, made("span", "", name));
      key.onclick = () => {
        if (!this.hidden.delete(id)) this.hidden.add(id);
        this.due();
      };
      return key;
    }));
  }

  zoomed(change) {
    for (const axis of ["x", "y"]) {
      const name = `${axis}axis`;
      if (change[`${name}.autorange`]) this.zoom[axis] = null;
      else if (`${name}.range[0]` in change) this.zoom[axis] = [change[`${name}.range[0]`], change[`${name}.range[1]`]];
    }
    this.due();
  }

  // Ends at round numbers, so that the axis rarely changes.
  range(values, place) {
    let [low, high] = [Infinity, -Infinity];
    for (const { points } of this.shown) {
      for (const i of points) {
        const at = place(values[i]);
        if (at > -Infinity) [low, high] = [Math.min(low, at), Math.max(high, at)];
      }
    }
    return around(low, high);
  }

  // The place of point `i` on the axes, in their own numbers.
  at(i) {
    const [x, y] = this.settings.log.map((log) => placed(log && "log"));
    return [x(this.content.x[i]), y(this.content.y[i])];
  }

  layout() {
    const style = getComputedStyle(this.root);
    const read = (name) => style.getPropertyValue(name).trim();
    const text = read("--st-text-color") || style.color;
    const soft = read("--st-border-color-light") || read("--st-border-color") || "#8884";
    const width = this.root.clientWidth || undefined;
    const axis = (which, name, log) => ({
      type: log ? "log" : "linear",
      range: this.zoom[which] ?? this.range(this.content[which], placed(log && "log")),
      autorange: false,
      title: { text: escapeMarkup(name), standoff: 8 },
      gridcolor: soft,
      linecolor: soft,
      zeroline: false,
      exponentformat: "SI",
      automargin: true,
    });
    return {
      autosize: !width,
      width,
      height: this.settings.height,
      margin: { l: 52, r: 10, t: 10, b: 36 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 12, color: text },
      hovermode: false,
      dragmode: "zoom",
      showlegend: false,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: text },
      xaxis: axis("x", this.settings.axes[0], this.settings.log[0]),
      yaxis: axis("y", this.settings.axes[1], this.settings.log[1]),
    };
  }

  resetZoom() {
    this.zoom = { x: null, y: null };
    this.due();
  }

  configuration() {
    const click = () => this.download();
    // Plotly's own button returns to the axes of the first drawing.
    const reset = { name: "reset", title: "Reset the zoom", icon: this.library.Icons.home, click: () => this.resetZoom() };
    const picture = { name: "picture", title: "Download as PNG", icon: this.library.Icons.camera, click };
    return { displaylogo: false, displayModeBar: "hover", modeBarButtons: [[picture, reset]], doubleClick: false, responsive: false };
  }

  // For a PNG, Plotly draws the points too.
  download() {
    const { x, y } = this.content;
    const layout = this.layout();
    const data = this.shown.filter(({ points }) => points.length).map(({ id, colour, points }) => ({
      type: "scatter",
      mode: "markers",
      name: id === OTHERS ? "others" : escapeMarkup(id),
      x: points.map((i) => x[i]),
      y: points.map((i) => y[i]), // Plotly omits points without a place on the axes
      marker: { size: 2 * SIZE, opacity: OPACITY, color: colour },
    }));
    const ground = getComputedStyle(this.root).getPropertyValue("--st-background-color").trim() || "#fff";
    Object.assign(layout, { paper_bgcolor: ground, plot_bgcolor: ground, showlegend: data.length > 1, legend: { orientation: "h", y: -0.2, yanchor: "top" } });
    this.library.downloadImage({ data, layout }, { format: "png", scale: 2, height: layout.height, width: this.root.clientWidth, filename: "chart" });
  }

  // A function from a point's number to its place, px from the corner of the plot.
  get onScreen() {
    const { xaxis, yaxis } = this.plot._fullLayout;
    return (i) => {
      const [x, y] = this.at(i);
      return [xaxis.l2p(x), yaxis.l2p(y)];
    };
  }

  paint() {
    const { l, t, w, h } = this.plot._fullLayout._size;
    const scale = window.devicePixelRatio || 1;
    const { canvas, onScreen } = this;
    Object.assign(canvas, { width: Math.round(w * scale), height: Math.round(h * scale) });
    Object.assign(canvas.style, { left: `${l}px`, top: `${t}px`, width: `${w}px`, height: `${h}px` });
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.globalAlpha = OPACITY;
    for (const { colour, points } of this.shown) {
      pen.fillStyle = colour;
      for (const i of points) {
        const [left, top] = onScreen(i);
        if (!(left >= -SIZE && left <= w + SIZE && top >= -SIZE && top <= h + SIZE)) continue;
        pen.beginPath();
        pen.arc(left, top, SIZE, 0, 7);
        pen.fill();
      }
    }
  }

  // The nearest point to this place of the window; null if none is near.
  nearest(place) {
    let [nearest, least] = [null, NEAR];
    const { l, t, w, h } = this.plot._fullLayout?._size ?? {};
    const { left, top } = this.root.getBoundingClientRect();
    const onScreen = this.axes && this.onScreen;
    for (const { id, points } of place && this.axes && !this.held ? this.shown : []) {
      for (const i of points) {
        const [x, y] = onScreen(i);
        const away = Math.hypot(x + l + left - place[0], y + t + top - place[1]);
        if (away < least && x >= 0 && x <= w && y >= 0 && y <= h) [nearest, least] = [{ i, id, x: x + l, y: y + t }, away];
      }
    }
    return nearest;
  }

  // Names the point at the pointer.
  name() {
    const nearest = this.nearest(this.pointer);
    this.tip.hidden = !nearest;
    if (!nearest) return;
    const { i, id, x, y } = nearest;
    const name = id === OTHERS ? "others" : id;
    say(this.tip, `${short(this.content.x[i])}, ${short(this.content.y[i])}${name && "\n"}${name}`);
    const right = x > this.root.clientWidth / 2;
    Object.assign(this.tip.style, {
      top: `${y + 8}px`, left: right ? "" : `${x + 10}px`, right: right ? `${this.root.clientWidth - x + 10}px` : "",
    });
  }
}

// A range with round ends and a little room around these values.
export function around(low, high) {
  if (!(low <= high)) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) / 25;
  const unit = 10 ** Math.floor(Math.log10(2 * room));
  const step = [1, 2, 5, 10].map((times) => times * unit).find((step) => step >= 2 * room);
  return [Math.floor((low - room) / step) * step, Math.ceil((high + room) / step) * step];
}

define("scatter", Scatter, LEGEND_STYLE + SCATTER);
