// Charts over time that are drawn on a canvas: their axis, legend, tip and place among the charts of the page.

import { timeTicks } from "./axis.js";
import { addCrosshair, moveCrosshair, removeCrosshair } from "./crosshair.js";
import { Element, made, say } from "./element.js";
import { addMarks, placeMarks, removeMarks } from "./event_marks.js";
import { pageZone, watchZone } from "./zone.js";
import { ALONE_STYLE, aloneSwitch, hasOthers, joinZoom, leaveZoom, spreadZoom } from "./zoom_together.js";

export const AXIS = 26; // px below what is drawn
const DRAGGED = 6; // px from which a drag counts as a zoom
export const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const WIDE = 90; // minimum px from one time on the axis to the next

export function lasted(ms) {
  const parts = [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"], [SECOND, "s"]];
  const first = parts.findIndex(([length]) => ms >= length);
  if (first < 0) return `${Math.round(ms)} ms`;
  const [length, unit] = parts[first];
  const [finer, part] = parts[first + 1] ?? [0, ""];
  const rest = finer ? Math.floor((ms % length) / finer) : 0;
  return `${Math.floor(ms / length)} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
}

// A range of times as text, with ms only if they are not zero.
export function times(from, until) {
  const { clock, date } = pageZone();
  const text = (time) => (time % SECOND ? `${clock(time)}.${String(time % SECOND).padStart(3, "0")}` : clock(time));
  const day = date(from) === date(Date.now()) ? "" : `${date(from)} `;
  const other = date(from) === date(until) ? "" : `${date(until)} `;
  return `${day}${text(from)} to ${other}${text(until)}`;
}

export class TimeCanvas extends Element {
  // To be defined by each kind: setUp() adds its own elements. paint() sets `from` and `to`, the ends of its axis in
  // ms, calls begin() and draws this.content. tipAt() returns the tip at a place: its `parts`, elements and texts; or
  // nothing. `margin`: px left of the axis. The arrow keys move by across() ms, and by down() px if that returns a
  // number. Without across() there are no keys.
  margin = 0;
  alone = false; // see zoom_together.js
  config = {};
  setUp() {}
  paint() {}
  tipAt() {}
  down() {}

  build() {
    this.title = made("p", "lb-canvas-title");
    this.legend = made("div", "lb-canvas-legend");
    this.body = made("div", "lb-canvas-body");
    this.plot = made("div", "lb-canvas");
    this.canvas = made("canvas");
    this.canvas.setAttribute("role", "img");
    this.tip = made("div", "lb-tip");
    this.tip.hidden = true;
    this.plot.append(this.canvas, this.tip);
    this.body.append(this.plot);
    this.note = made("div", "lb-note");
    this.foot = made("div", "lb-canvas-foot");
    this.foot.append(this.note);
    this.root.append(this.title, this.legend, this.body, this.foot);
    this.parent = this.root;
    this.setUp();
    this.resized = new ResizeObserver(() => this.due());
    this.resized.observe(this.plot);
    this.canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => this.point((this.pointed = { offsetX, offsetY })));
    this.canvas.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && this.point((this.pointed = null)));
    // A finger leaves at once, so the tip of a tap stays until the next tap.
    this.canvas.addEventListener("click", ({ offsetX, offsetY }) => this.point((this.pointed = { offsetX, offsetY })));
    this.tapped = ({ target }) => target !== this.canvas && this.point((this.pointed = null));
    document.addEventListener("pointerdown", this.tapped);
    this.unwatch = watchZone(() => this.due());
    this.root.lookback = this; // for the tests
    this.visible = true; // a crosshair costs little, so it is also moved outside the screen
    addCrosshair(this);
    addMarks(this, { above: true }); // the canvas would hide marks below it
    this.letZoom();
    if (this.across) this.letKeys();
  }

  end() {
    this.unwatch();
    this.resized.disconnect();
    document.removeEventListener("pointerdown", this.tapped);
    removeCrosshair(this);
    removeMarks(this);
    leaveZoom(this);
  }

  draw() {
    this.drawTitle();
    this.paint();
    this.drawAlone();
    placeMarks(this);
    moveCrosshair();
    if (this.pointed) this.point(this.pointed);
  }

  drawTitle() {
    const { title } = this.settings;
    say(this.title, title);
    this.title.hidden = !title;
  }

  // See Chart.timeAxis() in live_chart.js.
  timeAxis() {
    const width = this.plot.clientWidth - this.margin;
    if (!(width > 0) || !this.high) return null;
    const span = this.to - this.from;
    const [time, at] = [(px) => this.from + (px / width) * span, (ms) => ((ms - this.from) / span) * width];
    return { left: this.margin, top: 0, width, height: this.high, time, at };
  }

  // Entries: { colour, name, text, title }, in order.
  drawLegend(entries) {
    while (this.legend.children.length > entries.length) this.legend.lastChild.remove();
    entries.forEach(({ colour, name, text, title }, i) => {
      let entry = this.legend.children[i];
      if (!entry) {
        entry = this.legend.appendChild(made("span"));
        entry.append(made("i"), made("b"), made("span"));
      }
      entry.firstChild.style.background = colour;
      say(entry.children[1], name);
      say(entry.lastChild, text);
      entry.title = title;
    });
  }

  // A pen for a drawing of this height above the axis; null while there is no room, as in a tab that is not open.
  begin(high) {
    this.high = high;
    const [wide, all] = [this.plot.clientWidth, high + AXIS];
    if (!wide || !high) return null;
    const scale = devicePixelRatio || 1;
    const canvas = this.canvas;
    if (canvas.width !== Math.round(wide * scale) || canvas.height !== Math.round(all * scale)) {
      [canvas.width, canvas.height] = [Math.round(wide * scale), Math.round(all * scale)];
      [canvas.style.width, canvas.style.height] = [`${wide}px`, `${all}px`];
    }
    const pen = canvas.getContext("2d");
    const { color, fontFamily } = getComputedStyle(this.root);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, wide, all);
    pen.textBaseline = "middle";
    pen.font = `12px ${fontFamily}`;
    pen.fillStyle = pen.strokeStyle = this.color = color;
    return pen;
  }

  drawTimes(pen) {
    const { left, width, at } = this.timeAxis();
    pen.fillStyle = this.color;
    for (const { time, text } of timeTicks(this.from, this.to, Math.max(2, width / WIDE), pageZone())) {
      const x = left + at(time);
      pen.globalAlpha = 0.12;
      pen.fillRect(Math.round(x), 0, 1, this.high);
      pen.globalAlpha = 0.7;
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.max(left, Math.min(left + width - 2 * half, x - half)), this.high + AXIS / 2 + 2);
    }
    pen.globalAlpha = 1;
  }

  point(place) {
    if (place?.time !== undefined) place.offsetX = this.margin + this.timeAxis().at(place.time); // the axis moves on
    const said = place && this.high ? this.tipAt(place) : null;
    this.tip.hidden = !said;
    if (!said) return;
    this.tip.replaceChildren(...said.parts);
    const across = Math.min(place.offsetX + 12, this.plot.clientWidth - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(0, across)}px, ${said.below ?? place.offsetY + 16}px)`;
  }

  // The arrow keys go from value to value, Home and End to the first and the last value. Esc ends pointing.
  letKeys() {
    this.canvas.tabIndex = 0;
    this.canvas.addEventListener("keydown", (event) => {
      const axis = this.timeAxis();
      if (!axis || event.ctrlKey || event.metaKey || event.altKey) return;
      const place = keyedPlace(event.key, this.pointed, {
        axis, margin: this.margin, by: this.across(), down: this.down() ?? 0, of: [this.content.first, this.content.last],
      });
      if (place === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.tip.setAttribute("role", "status"); // read out by screen readers
      this.point((this.pointed = place));
    });
    this.canvas.addEventListener("blur", () => this.pointed?.time !== undefined && this.point((this.pointed = null)));
  }

  drawAlone() {
    const shown = (this.zoom || this.alone) && hasOthers(this);
    const state = shown ? String(this.alone) : "";
    if (state === (this.aloneState ?? "")) return; // rebuilding would lose a click in progress
    this.aloneState = state;
    this.foot.replaceChildren(this.note, ...(shown ? [aloneSwitch(this)] : []));
  }

  // -- the zoom, by a drag with the mouse; a double click ends it

  letZoom() {
    this.zoom = null;
    const box = made("div", "lb-dragged");
    box.hidden = true;
    this.plot.append(box);
    let start = null;
    const across = (x) => Math.min(this.plot.clientWidth, Math.max(this.margin, x));
    const show = (to) => {
      box.hidden = start === null || Math.abs(to - start) < DRAGGED;
      Object.assign(box.style, { left: `${Math.min(start, to)}px`, width: `${Math.abs(to - start)}px`, height: `${this.high}px` });
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button) return; // fingers scroll the page
      start = across(event.offsetX);
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", ({ offsetX }) => start !== null && show(across(offsetX)));
    this.canvas.addEventListener("pointercancel", () => show((start = null)));
    this.canvas.addEventListener("pointerup", ({ offsetX }) => {
      const [from, to] = [start, across(offsetX)].sort((one, other) => one - other);
      const axis = this.timeAxis();
      const dragged = start !== null && axis && to - from >= DRAGGED;
      start = null;
      box.hidden = true;
      if (!dragged) return;
      this.zoomTo([axis.time(from - axis.left), axis.time(to - axis.left)]);
      spreadZoom(this);
    });
    this.canvas.addEventListener("dblclick", () => {
      this.zoomTo(null);
      spreadZoom(this);
    });
  }

  get state() { return { zoom: this.zoom, alone: this.alone }; }
  set state(left) { Object.assign(this, left); }

  receive(data) {
    if (this.when !== data.when) {
      if (this.when) this.zoom = null; // a zoom is for one setting of the clock
      this.when = data.when;
      joinZoom(this);
    }
    super.receive(data);
  }

  zoomedTimes() { return this.zoom; }

  zoomTo(range) {
    this.zoom = range;
    this.due();
  }
}

// The place to which a key leads: { time, offsetY }. Null if it ends pointing, undefined if it is another key. A value
// is in the middle of an interval of `by` ms. `of`: numbers of the first and the last interval; `down`: px of a row.
export function keyedPlace(key, place, { axis, margin, by, down, of }) {
  if (key === "Escape") return place ? null : undefined;
  const [from, to] = [axis.time(0), axis.time(axis.width)];
  const middle = (time) => (Math.floor(time / by) + 0.5) * by;
  const [first, last] = [Math.max(middle(from), (of[0] + 0.5) * by), Math.min(middle(to - 1), (of[1] + 0.5) * by)];
  const shown = (time) => Math.max(from + 1, Math.min(to - 1, Math.min(last, Math.max(first, time)))); // or cut off
  const [right, below] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0] }[key] ?? [];
  if (right === undefined || (below && !down)) return undefined;
  const offsetY = place?.offsetY ?? axis.height / 2;
  if (!place && Math.abs(right) <= 1) return { time: shown(last), offsetY: row(offsetY) };
  const time = middle(place ? place.time ?? axis.time(place.offsetX - margin) : first) + (right || 0) * by;
  return { time: shown(time), offsetY: row(offsetY + below * down) };

  // The middle of a row within the picture.
  function row(y) {
    return down ? Math.min(axis.height - down / 2, Math.max(down / 2, (Math.floor(y / down) + 0.5) * down)) : y;
  }
}

export const STYLE = `
.lb-canvas-title { font-weight: 600; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
.lb-canvas-legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; font-size: 0.875rem; margin-bottom: 0.4rem; font-variant-numeric: tabular-nums; }
.lb-canvas-legend > span { display: inline-flex; align-items: center; gap: 0.4rem; max-width: 100%; }
.lb-canvas-legend i { flex: none; width: 0.75rem; height: 0.75rem; border-radius: 0.2rem; }
.lb-canvas-legend b { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-canvas-legend span span { opacity: 0.7; white-space: nowrap; min-width: 3.4rem; }
.lb-canvas-body { display: flex; gap: 0.6rem; padding: 0.5rem 0 0.2rem; } /* above it the texts of marks */
.lb-canvas-body[hidden] { display: none; }
.lb-canvas { flex: 1; min-width: 0; position: relative; overflow: clip; overflow-clip-margin: 3rem; }
.lb-canvas canvas { display: block; }
.lb-dragged { position: absolute; top: 0; pointer-events: none; background: color-mix(in srgb, var(--st-primary-color, #0b6e7f) 18%, transparent); }
.lb-canvas .lb-tip { position: absolute; top: 0; left: 0; z-index: 2; pointer-events: none; max-width: 100%; padding: 0.3rem 0.55rem; font-size: 0.8125rem;
  border-radius: 0.35rem; overflow-wrap: anywhere; background: var(--st-background-color, #fff); border: 1px solid var(--st-border-color, #8884);
  box-shadow: 0 2px 8px #0002; font-variant-numeric: tabular-nums; }
.lb-canvas :is(.lb-tip, .lb-dragged)[hidden] { display: none; }
.lb-canvas canvas:focus-visible { outline: 2px solid var(--st-primary-color, #0b6e7f); outline-offset: 2px; }
.lb-canvas-foot { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; font-size: 0.875rem; }
.lb-canvas-foot:has(> .lb-note:empty:only-child) { display: none; }
.lb-canvas-foot > * { padding-top: 0.3rem; opacity: 0.7; }
${ALONE_STYLE}`;
