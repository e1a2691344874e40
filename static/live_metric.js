// One number with a small line behind it. components/metrics/metric.py sends it.

import { define, Element, made, say } from "./element.js";

const STYLE = `
.lb-metric { position: relative; display: flex; flex-direction: column; min-height: 4.6rem; padding-top: 2px; box-sizing: border-box; overflow: hidden; }
.lb-metric > div { position: relative; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-metric-title { font-size: 0.875rem; line-height: 1.6; }
.lb-metric-number { font-size: 2.25rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
.lb-metric-change { font-size: 0.875rem; line-height: 1.5; min-height: 1.5em; opacity: 0.75; font-variant-numeric: tabular-nums; }
.lb-metric svg { position: absolute; left: 0; bottom: 0; width: 100%; height: 2.1rem; color: var(--st-primary-color, #0b6e7f); }
.lb-metric path { fill: none; stroke: currentColor; stroke-opacity: 0.45; stroke-width: 1.5; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
.lb-metric .lb-metric-area { fill: currentColor; fill-opacity: 0.1; stroke: none; }
.lb-metric[data-line] { padding-bottom: 1.7rem; }`;

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 30; // in the line's own units

class Metric extends Element {
  build() {
    this.title = made("div", "lb-metric-title");
    this.figure = made("div", "lb-metric-number");
    this.change = made("div", "lb-metric-change");
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("aria-hidden", "true");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.area = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "lb-metric-area");
    this.line = document.createElementNS(SVG, "path");
    this.svg.append(this.area, this.line);
    this.root.append(this.svg, this.title, this.figure, this.change);
  }

  receive(data) {
    super.receive(data);
    say(this.title, this.settings.title);
    this.change.hidden = !this.settings.since;
    this.svg.toggleAttribute("hidden", !this.settings.points);
    this.root.toggleAttribute("data-line", Boolean(this.settings.points));
  }

  draw() {
    const { text, exact, change, way } = this.content;
    say(this.figure, text);
    this.figure.title = exact ?? "";
    const arrow = ["↓", "→", "↑"][way + 1];
    say(this.change, change === undefined ? "" : `${arrow} ${change} ${this.settings.since}`);
    if (this.settings.points) this.course();
  }

  course() {
    const { step, p } = this.content;
    const { points, young } = this.settings;
    // The line of a young stream uses the whole width.
    const first = young === undefined ? 0 : Math.max(0, Math.min(young - step, -1) + points);
    const at = [];
    for (const name in this.content) {
      const number = Number(name.slice(1));
      if (name[0] === "p" && name.length > 1) at.push([number - step + points, this.content[name]]);
    }
    at.sort((one, other) => one[0] - other[0]);
    if (p !== undefined) at.push([points + 1, p]);
    const values = at.map(([, value]) => value);
    const least = Math.min(...values);
    const span = Math.max(...values) - least;
    // A line that hardly changes stays in the middle.
    const y = (value) => (span ? 2 + (HEIGHT - 4) * (1 - (value - least) / span) : HEIGHT / 2).toFixed(2);
    const runs = [];
    for (const [x, value] of at) {
      const run = runs.at(-1);
      if (run && x - run.at(-1)[0] <= 1) run.push([x, y(value)]);
      else runs.push([[x, y(value)]]);
    }
    const path = (run) => `M${run.map((place) => place.join(" ")).join("L")}`;
    this.svg.setAttribute("viewBox", `${first} 0 ${points + 1 - first} ${HEIGHT}`);
    this.line.setAttribute("d", runs.map(path).join(""));
    const down = (run) => `${path(run)}L${run.at(-1)[0]} ${HEIGHT}L${run[0][0]} ${HEIGHT}Z`;
    this.area.setAttribute("d", runs.map(down).join(""));
  }
}

define("metric", Metric, STYLE);
