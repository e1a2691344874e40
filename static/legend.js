// The legend below a line chart (live_chart.js): the names of its lines, which a press hides, a search among them, and what
// else there is to say of the chart.

import { unfit } from "./axis.js";
import { made } from "./element.js";
import { BORDERS, faded } from "./line_looks.js";
import { lineOf } from "./panels.js";
import { BY_NAME } from "./series_names.js";
import { short, withUnit } from "./units.js";
import { hasOthers, keepAlone } from "./zoom_together.js";

const MANY = 12; // series from which on they can be searched for
const ALERT = "#d6453d"; // thresholds

export const LEGEND_STYLE = `
.lb-legend { padding: 2px 10px 4px 4px; font-size: 0.75rem; line-height: 1.55; }
.lb-keys { display: flex; flex-wrap: wrap; gap: 0 14px; max-height: 86px; overflow-y: auto; }
.lb-search { width: 100%; max-width: 16rem; height: 24px; margin-bottom: 3px; padding: 0 8px; box-sizing: border-box;
  font: inherit; color: inherit; background: transparent; border: 1px solid var(--st-border-color, #8884); border-radius: 4px; }
.lb-search:not([hidden]) + .lb-keys { max-height: 62px; }
.lb-legend [hidden] { display: none; }
.lb-legend button { all: unset; cursor: pointer; max-width: 100%; display: inline-flex; align-items: center; gap: 6px; }
.lb-legend button span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-legend button:focus-visible { outline: 2px solid var(--st-primary-color); }
.lb-legend button[aria-pressed="false"] { opacity: 0.4; text-decoration: line-through; }
.lb-legend i { flex: none; width: 16px; border-top: 2px solid; }
.lb-legend button[hidden] { display: none; }
.lb-legend i.lb-band { height: 9px; border: 0; background: rgba(125, 139, 147, 0.35); }
.lb-legend .lb-note { opacity: 0.65; }
@media (pointer: coarse) {
  .lb-legend { line-height: 2.4; }
  .lb-search { height: 34px; font-size: 16px; } /* phones zoom in on smaller text */
  .lb-keys, .lb-search:not([hidden]) + .lb-keys { max-height: 124px; }
}
.lb-legend .lb-alone { display: inline-flex; align-items: center; gap: 4px; cursor: pointer; }
.lb-legend .lb-alone input { margin: 0; accent-color: var(--st-primary-color); }
.lb-legend a { color: var(--st-primary-color); text-decoration: underline; }
.lb-legend .lb-limit { color: ${ALERT}; }`;

export class Legend {
  constructor(chart) {
    this.chart = chart;
    this.root = made("div", "lb-legend");
    this.search = made("input", "lb-search");
    this.search.type = "search";
    this.search.placeholder = "Find series";
    this.search.title = "Enter shows only the matches; press it again to show all";
    this.search.setAttribute("aria-label", "Find series");
    this.search.oninput = () => this.find();
    this.search.onkeydown = (event) => {
      event.stopPropagation(); // single letters are shortcuts of the page
      if (event.key === "Enter") this.only(this.found());
    };
    this.keys = made("div", "lb-keys");
    this.root.append(this.search, this.keys);
    this.root.addEventListener("focusin", ({ target }) => (this.focused = target));
    this.root.addEventListener("focusout", () => setTimeout(() => {
      // An element taken off the page loses the focus, so give it back.
      if (this.root.isConnected && !this.root.contains(document.activeElement)) this.focused = null;
    }));
  }

  // Our own legend below the chart: Plotly's takes its space from the lines, half of it with a dozen series.
  draw() {
    const { chart } = this;
    let shown = chart.series
      .map((series, i) => [i, series.name])
      .filter(([i]) => chart.isKnown(chart.series[i])) // one whose rows have left keeps its colour, and no key
      .sort((a, b) => (a[0] === chart.others) - (b[0] === chart.others) || BY_NAME.compare(a[1], b[1]));
    if (chart.panels) shown = chart.linesOfPanels().map(([line, i]) => [i, line]);
    const undrawn = this.undrawn();
    const limits = chart.panels ? chart.config.thresholds ?? [] : [];
    const periods = chart.config.compare ? chart.periods().map((period) => [period.k, chart.called(period)]) : [];
    const unmarked = chart.config.marks?.more;
    const there = chart.stretchAddress();
    const unfitting = chart.config.scale === "log" && chart.series.some(({ cells }) => unfit(cells));
    const switched = (chart.zoom.x || chart.alone) && hasOthers(chart) ? chart.alone : null;
    const state = JSON.stringify([shown, periods, [...chart.hidden], chart.others, chart.future, unmarked, there, unfitting, switched, undrawn, limits]);
    if (state === this.state) return; // a button that is being clicked stays
    this.state = state;
    const names = chart.shortNames();
    const keyOf = (id, name, text) => {
      const key = made("button");
      key.type = "button";
      key.title = name;
      key.setAttribute("aria-pressed", !chart.hidden.has(id));
      key.append(made("i"), made("span", "", text));
      key.onclick = () => this.toggle(id);
      return key;
    };
    const keys = periods.map(([k, name]) => {
      const key = keyOf(k, name, name);
      Object.assign(key.firstChild.style, { borderTop: `2px ${k ? "dotted" : "solid"} currentColor`, opacity: faded(k) });
      return key;
    });
    for (const [i, name] of shown.length < 2 ? [] : shown) {
      const key = keyOf(chart.idOf(i), name, names[i]);
      key.series = chart.idOf(i);
      key.ondblclick = () => this.only([key.series]);
      const { colour, dash } = chart.lookOf(i);
      if (i === chart.others) key.firstChild.className = "lb-band";
      else key.firstChild.style.borderTop = `2px ${BORDERS[dash]} ${colour}`;
      keys.push(key);
    }
    if (undrawn) keys.push(made("span", "lb-note", undrawn));
    for (const [name, value] of limits) keys.push(made("span", "lb-limit", `${name} ${withUnit(value, chart.config.unit)}`));
    if (chart.future) keys.push(made("span", "lb-note", `${chart.future} rows with a time in the future not drawn`));
    if (unfitting) keys.push(made("span", "lb-note", "Zero and negative values are below the logarithmic axis"));
    if (unmarked) keys.push(made("span", "lb-note", `${short(unmarked)} earlier crossings not marked`));
    if (there) {
      const link = made("a", "", "Look at this stretch");
      link.title = "All of the page at the times that this chart shows";
      link.href = there;
      link.target = "_self";
      keys.push(link);
    }
    if (switched !== null) keys.push(this.aloneSwitch());
    this.none = made("span", "lb-note", "No series matches");
    this.keys.replaceChildren(...keys, this.none);
    this.search.hidden = shown.length <= MANY && !this.search.value;
    this.find();
  }

  // The series whose names contain the text of the search box.
  found() {
    const { chart } = this;
    const part = this.search.value.trim().toLowerCase();
    const named = ({ name }) => (chart.panels ? lineOf(name) : name).toLowerCase().includes(part);
    return chart.series.flatMap((series, i) => (named(series) ? [chart.idOf(i)] : []));
  }

  // Of small multiples, how many there is no room for, in words; otherwise nothing.
  undrawn() {
    const { chart } = this;
    if (!chart.panels) return "";
    const folded = chart.others === null ? "" : chart.series[chart.others].name.split(" ")[0];
    const several = chart.linesOfPanels().length > 1;
    const parts = [
      folded && folded !== "0" && (several ? `${folded} more line${folded === "1" ? "" : "s"}` : `${folded} more`),
      chart.panels.left && `${chart.panels.left} more panel${chart.panels.left === 1 ? "" : "s"}`,
    ].filter(Boolean);
    const one = parts.length === 1 && /^1 /.test(parts[0]);
    return parts.length ? `${parts.join(" and ")} ${one ? "is" : "are"} not drawn` : "";
  }

  find() {
    const found = new Set(this.found());
    for (const key of this.keys.children) if ("series" in key) key.hidden = !found.has(key.series);
    this.none.hidden = found.size > 0;
  }

  toggle(id) {
    const { chart } = this;
    if (!chart.hidden.delete(id)) chart.hidden.add(id);
    chart.draw();
  }

  // Show only these, or all if only these are shown.
  only(ids) {
    if (!ids.length) return;
    const { chart } = this;
    const all = chart.series.map((_, i) => chart.idOf(i));
    const others = all.filter((id) => !ids.includes(id));
    const alone = others.every((id) => chart.hidden.has(id)) && !ids.some((id) => chart.hidden.has(id));
    for (const id of all) chart.hidden.delete(id);
    if (!alone) others.forEach((id) => chart.hidden.add(id));
    chart.draw();
  }

  // Keeps the zoom of this chart to itself.
  aloneSwitch() {
    const { chart } = this;
    const [label, box] = [made("label", "lb-alone"), made("input")];
    box.type = "checkbox";
    box.checked = chart.alone;
    box.onchange = () => keepAlone(chart, box.checked);
    label.title = "A zoom is one of all charts of the page. With this, this chart has its own.";
    label.append(box, "Zoom only this chart");
    return label;
  }
}
