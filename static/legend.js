// The legend below a line chart (live_chart.js): the names of its lines, which a click hides, a search among them, and
// notes about the chart.

import { unfit } from "./axis.js";
import { channel } from "./channel.js";
import { made, say } from "./element.js";
import { BORDERS, faded } from "./line_looks.js";
import { lineOf } from "./panels.js";
import { BY_NAME } from "./series_names.js";
import { short, withUnit } from "./units.js";
import { ALONE_STYLE, aloneSwitch, hasOthers } from "./zoom_together.js";

const MANY = 12; // with more series, there is a search box
const PAUSE = 250; // ms between the last letter and the request to the server
const [MOST_NAMED, LONGEST_NAMED] = [20, 12_000]; // series that a viewer may name, and characters of their names
const RULES = ["busiest", "greatest", "newest", "name"]; // nats_client/series/series_choice.py describes them
const VALUES = [["", "by name"], ["newest", "by newest value"], ["greatest", "by greatest value"], ["mean", "by mean"]];
const ALERT = "#d6453d"; // thresholds

export const LEGEND_STYLE = `
.lb-legend { padding: 2px 10px 4px 4px; font-size: 0.75rem; line-height: 1.55; }
.lb-keys { display: flex; flex-wrap: wrap; gap: 0 14px; max-height: 86px; overflow-y: auto; }
.lb-search { width: 100%; max-width: 16rem; height: 24px; margin-bottom: 3px; padding: 0 8px; box-sizing: border-box;
  font: inherit; color: inherit; background: transparent; border: 1px solid var(--st-border-color, #8884); border-radius: 4px; }
.lb-search:not([hidden]) ~ .lb-keys { max-height: 62px; }
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
  .lb-keys, .lb-search:not([hidden]) ~ .lb-keys { max-height: 124px; }
}
${ALONE_STYLE}
.lb-legend a { color: var(--st-primary-color); text-decoration: underline; }
.lb-legend .lb-limit { color: ${ALERT}; }
.lb-of-lines { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 0 14px; }
.lb-of-lines .lb-keys { flex: 1 1 60%; min-width: 0; }
.lb-of-lines .lb-search { flex: 1 1 7rem; }
.lb-of-lines .lb-search:not([hidden]) ~ .lb-keys { flex-basis: 100%; }
.lb-of-lines .lb-search[hidden] ~ .lb-menu { order: 1; }
.lb-menu { display: flex; gap: 12px; margin-left: auto; }
.lb-search:not([hidden]) ~ .lb-menu { line-height: 24px; }
.lb-menu select { appearance: none; field-sizing: content; border: 0; padding: 0 12px 0 0; margin: 0; font: inherit; line-height: inherit; color: inherit; cursor: pointer;
  max-width: 18rem; opacity: 0.7; background: no-repeat right center / 8px url('data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 5"><path d="M0 0l4 5 4-5z" fill="%237d8b93"/></svg>'); }
.lb-menu select:is(:hover, :focus-visible) { opacity: 1; }
.lb-menu select:focus-visible { outline: 2px solid var(--st-primary-color); }
.lb-menu option { color: var(--st-text-color, #222); background: var(--st-background-color, #fff); }
.lb-valued { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 0 20px; }
.lb-of-lines .lb-keys.lb-valued { max-height: 116px; }
.lb-legend .lb-valued button:not(.lb-end) { display: flex; min-width: 0; flex: 1; }
.lb-legend .lb-valued [hidden] { display: none; }
.lb-legend .lb-valued .lb-value { margin-left: auto; flex: none; min-width: var(--lb-digits, 0); max-width: 60%; text-align: right;
  font-variant-numeric: tabular-nums; text-decoration: none; }
.lb-named { display: inline-flex; gap: 4px; min-width: 0; }
.lb-valued { padding-right: 18px; }
.lb-valued .lb-named { position: relative; }
.lb-legend .lb-valued .lb-end { position: absolute; right: -17px; }
.lb-legend .lb-end { flex: none; padding: 0 3px; opacity: 0.6; }
.lb-legend .lb-end:hover { opacity: 1; }
.lb-among { flex: 1 0 100%; display: flex; flex-wrap: wrap; gap: 0 14px; max-height: 62px; overflow-y: auto; }
.lb-among button { color: var(--st-primary-color); }
@media (pointer: coarse) {
  .lb-menu select, .lb-search:not([hidden]) ~ .lb-menu { font-size: 16px; line-height: 34px; }
  .lb-among { max-height: 124px; }
}`;

// Series sorted by value, the greatest first; those without a value come after them, and the others last.
// `shown`: [id, name, value], `last`: the id of the others.
export function sortedByValue(shown, last) {
  const rank = ([id, , value]) => (id === last ? 2 : value === null || value === undefined ? 1 : 0);
  return [...shown].sort((one, other) =>
    rank(one) - rank(other) || (rank(one) ? 0 : other[2] - one[2]) || BY_NAME.compare(one[1], other[1]));
}

// `ids` in their previous order `before`, new ones behind them, and `last` at the end.
export function inOrderOf(before, ids, last) {
  const place = new Map(before.map((id, i) => [id, i]));
  const at = (id) => (id === last ? Infinity : place.get(id) ?? before.length);
  return [...ids].sort((one, other) => (at(one) === at(other) ? 0 : at(one) - at(other)));
}

export class Legend {
  constructor(chart) {
    this.chart = chart;
    this.order = []; // ids of series, as they stand
    this.digits = 0; // characters of the longest value so far
    this.pointed = false; // keys keep their places while the viewer points at them
    this.root = made("div", "lb-legend lb-of-lines");
    this.search = made("input", "lb-search");
    this.search.type = "search";
    this.search.placeholder = "Find series";
    this.search.title = "Enter shows only the matches; press it again to show all";
    this.search.setAttribute("aria-label", "Find series");
    this.search.oninput = () => {
      this.find();
      this.askAmongOthers();
    };
    this.search.onkeydown = (event) => {
      event.stopPropagation(); // single letters are shortcuts of the page
      if (event.key === "Enter") this.only(this.found());
    };
    this.keys = made("div", "lb-keys");
    this.keys.onpointerenter = () => (this.pointed = true);
    this.keys.onpointerleave = () => {
      this.pointed = false;
      this.showValues();
    };
    this.menu = made("div", "lb-menu");
    this.rule = this.select("Which series have lines of their own", (rule) => this.chooseRule(rule));
    this.value = this.select("The order of the legend, and the value beside the names", (value) => this.sortBy(value));
    this.menu.append(this.rule, this.value);
    this.among = made("div", "lb-among");
    this.among.hidden = true;
    this.root.append(this.search, this.menu, this.keys, this.among);
    this.root.addEventListener("focusin", ({ target }) => (this.focused = target));
    this.root.addEventListener("focusout", () => setTimeout(() => {
      // An element taken off the page loses the focus, so give it back.
      if (this.root.isConnected && !this.root.contains(document.activeElement)) this.focused = null;
    }));
  }

  select(label, chosen) {
    const select = made("select");
    select.setAttribute("aria-label", label);
    select.title = label;
    select.onchange = () => chosen(select.value);
    select.onkeydown = (event) => event.stopPropagation(); // single letters are shortcuts of the page
    return select;
  }

  // The two selects, each only if it has something to choose from.
  drawMenu(count) {
    const { chart } = this;
    const { rule, names, value } = chart.choices;
    const { most, compare, rule: given = RULES[0] } = chart.config;
    const chosen = rule ?? given;
    const folded = chart.answers && most && (chart.others !== null || rule !== null || names.length > 0);
    const called = { busiest: `${most} busiest`, greatest: `${most} greatest`, newest: `${most} newest`, name: `first ${most} by name` };
    fill(this.rule, folded ? RULES.map((each) => [each, called[each]]) : [], chosen);
    const sorts = chart.answers && !compare && !chart.panels && count > 1;
    // The values cover the look-back, also in a zoom. A page at the zoomed stretch has the values of that stretch.
    const of = chart.zoom.x ? `, whole ${chart.config.still ? "stretch" : "look-back"}` : "";
    fill(this.value, sorts ? VALUES.map(([each, text]) => [each, each ? text + of : text]) : [], value ?? "");
    this.menu.hidden = !folded && !sorts;
  }

  chooseRule(rule) {
    this.chart.choose({ rule: rule === (this.chart.config.rule ?? RULES[0]) ? null : rule });
  }

  sortBy(value) {
    this.digits = 0;
    this.chart.choose({ value: value || null });
  }

  // Give a series a line of its own whatever the rule is, or end that.
  name(series, own) {
    const names = this.chart.choices.names.filter((name) => name !== series);
    if (own) names.push(series);
    const room = names.length <= MOST_NAMED && JSON.stringify(names).length < LONGEST_NAMED;
    if (room) this.chart.choose({ names });
  }

  // Update the values beside the names, and the order. Rebuilds no button, because it may be under a click.
  showValues() {
    const { chart } = this;
    const keys = [...this.keys.children].filter((key) => "series" in key);
    if (chart.choices.value && !chart.config.compare && !chart.panels) {
      for (const key of keys) {
        const value = this.valueOf(key.row);
        if (value === undefined) continue; // not received yet
        const text = value === null ? "–" : withUnit(value, chart.config.unit);
        say(key.shows, text);
        this.digits = Math.max(this.digits, text.length);
      }
      this.keys.style.setProperty("--lb-digits", `${this.digits}ch`);
    }
    if (chart.panels) return; // sorted by name, without values
    const ordered = this.sorted(keys.map(({ row }) => [row, chart.series[row]?.name ?? ""])).map(([row]) => row);
    if (String(ordered) === String(keys.map(({ row }) => row))) return;
    const byRow = new Map(keys.map((key) => [key.row, key]));
    for (const row of ordered) this.keys.insertBefore(byRow.get(row), this.rest);
    this.order = ordered.map((row) => chart.idOf(row));
  }

  // The value of a series that the legend shows, null if it has none, undefined if it is not known yet.
  valueOf(row) {
    const { chart } = this;
    const { value } = chart.choices;
    const series = chart.series[row];
    if (!series || chart.config.value !== value) return undefined;
    if (row === chart.others && value === "newest") return null; // a band of many series has no newest value
    const found = chart.config.values?.[series.name];
    const held = value === "newest" && chart.config.steps && series.held;
    return found === null && held ? held.cell.newest ?? held.cell[1] : found;
  }

  // [row, name] in the order of the legend.
  sorted(shown) {
    const { chart } = this;
    const last = chart.others;
    const byName = [...shown].sort((a, b) => (a[0] === last) - (b[0] === last) || BY_NAME.compare(a[1], b[1]));
    const valued = chart.choices.value && !chart.config.compare && !chart.panels;
    const wanted = valued ? sortedByValue(byName.map(([row, name]) => [row, name, this.valueOf(row)]), last) : byName;
    const chosen = JSON.stringify([chart.choices, chart.config.value]);
    const stands = chosen === this.orderOf && (this.pointed || this.keys.querySelector(":focus-visible"));
    this.orderOf = chosen;
    if (!stands) return wanted;
    const rows = new Map(wanted.map((each) => [chart.idOf(each[0]), each]));
    const end = last === null ? null : chart.idOf(last);
    return inOrderOf(this.order, [...rows.keys()], end).map((id) => rows.get(id));
  }

  // Our own legend below the chart: Plotly's takes its space from the lines, half of it with a dozen series.
  draw() {
    const { chart } = this;
    let shown = chart.series
      .map((series, i) => [i, series.name])
      .filter(([i]) => chart.isKnown(chart.series[i])); // without rows, a series keeps its colour but has no key
    if (chart.panels) shown = chart.linesOfPanels().map(([line, i]) => [i, line]);
    const undrawn = this.undrawn();
    const limits = chart.panels ? chart.config.thresholds ?? [] : [];
    const periods = chart.config.compare ? chart.periods().map((period) => [period.k, chart.called(period)]) : [];
    const unmarked = chart.config.marks?.more;
    const there = chart.stretchAddress();
    const unfitting = chart.config.scale === "log" && chart.series.some(({ cells }) => unfit(cells));
    const switched = (chart.zoom.x || chart.alone) && hasOthers(chart) ? chart.alone : null;
    const valued = Boolean(chart.choices.value && !chart.config.compare && !chart.panels);
    const state = JSON.stringify([shown, valued, chart.choices, chart.config.rule, chart.config.most, periods, [...chart.hidden], chart.others, chart.future, unmarked, there, unfitting, switched, undrawn, limits, Boolean(chart.zoom.x)]);
    if (state === this.state) return this.showValues(); // rebuilding would lose a click in progress
    this.state = state;
    this.drawMenu(shown.length);
    this.keys.classList.toggle("lb-valued", valued);
    if (!chart.panels) shown = this.sorted(shown);
    this.order = shown.map(([i]) => chart.idOf(i));
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
    keys.push(...this.unseen());
    for (const [i, name] of shown.length < 2 ? [] : shown) {
      const key = keyOf(chart.idOf(i), name, names[i]);
      key.series = chart.idOf(i);
      key.ondblclick = () => this.only([key.series]);
      const { colour, dash } = chart.lookOf(i);
      if (i === chart.others) key.firstChild.className = "lb-band";
      else key.firstChild.style.borderTop = `2px ${BORDERS[dash]} ${colour}`;
      key.shows = made("span", "lb-value");
      if (valued) key.append(key.shows);
      keys.push(this.chosen(key, i, name));
    }
    const series = keys.length;
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
    if (switched !== null) keys.push(aloneSwitch(chart));
    this.none = made("span", "lb-note", "No series matches");
    this.rest = keys[series] ?? this.none; // the first element behind the names
    this.keys.replaceChildren(...keys, this.none);
    this.search.hidden = shown.length <= MANY && !this.search.value && !(chart.others !== null && chart.answers);
    this.find();
    this.drawAmong();
    this.showValues();
  }

  // The series whose names contain the text of the search box.
  found() {
    const { chart } = this;
    const part = this.search.value.trim().toLowerCase();
    const named = ({ name }) => (chart.panels ? lineOf(name) : name).toLowerCase().includes(part);
    return chart.series.flatMap((series, i) => (named(series) ? [chart.idOf(i)] : []));
  }

  // For small multiples, a note with how many lines and panels are not drawn; otherwise empty.
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
    this.none.hidden = found.size > 0 || !this.among.hidden;
  }

  // The key of a series. If the viewer has named the series, the key has a button that ends that.
  chosen(key, row, name) {
    let shown = key;
    if (this.chart.choices.names.includes(name)) {
      shown = made("span", "lb-named");
      shown.append(key, this.ender(name));
    }
    return Object.assign(shown, { series: this.chart.idOf(row), row, shows: key.shows });
  }

  // Named series (by the viewer or by a link) that have no numbers: each name, with a button that ends the naming.
  unseen() {
    const { chart } = this;
    const there = new Set(chart.series.filter((series) => chart.isKnown(series)).map(({ name }) => name));
    return chart.choices.names.filter((name) => !there.has(name)).map((name) => {
      const shown = made("span", "lb-named");
      shown.append(made("span", "lb-note", `${name.replace("\x1f", ", ")}: no numbers`), this.ender(name));
      return shown;
    });
  }

  // The button that ends the naming of a series, and so its own line.
  ender(name) {
    const end = made("button", "lb-end", "×");
    end.type = "button";
    end.title = "Has a line of its own because you chose it. End this";
    end.setAttribute("aria-label", `No longer name ${name}`);
    end.onclick = () => this.name(name, false);
    return end;
  }

  // Request from the server which series in the band have the searched text in their names.
  askAmongOthers() {
    clearTimeout(this.typing);
    const { chart } = this;
    const part = this.search.value.trim();
    if (!part || chart.others === null || !chart.answers || chart.plugged === null) {
      this.foundAmong = null;
      return this.drawAmong();
    }
    this.typing = setTimeout(async () => {
      const answer = await channel().question(chart.plugged, { find: part });
      if (part !== this.search.value.trim()) return;
      this.foundAmong = answer;
      this.drawAmong();
    }, PAUSE);
  }

  drawAmong() {
    const { names = [], count = 0, error } = this.foundAmong ?? {};
    const { names: chosen } = this.chart.choices;
    const parts = names.filter((name) => !chosen.includes(name)).map((name) => {
      const key = made("button", "", `+ ${name.replace("\x1f", ", ")}`);
      key.type = "button";
      key.title = `Draw ${name.replace("\x1f", ", ")} as a line of its own`;
      key.onclick = () => this.name(name, true);
      return key;
    });
    this.among.hidden = !parts.length && !error;
    const more = count - names.length;
    this.among.replaceChildren(
      made("span", "lb-note", error ?? "Among the others:"), ...parts, ...(more > 0 ? [made("span", "lb-note", `and ${more.toLocaleString("en")} more`)] : []),
    );
    if (this.none) this.find();
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
}

// Set the options of a select, [value, text]. Without options it is hidden; with the same ones it stays open.
function fill(select, options, chosen) {
  const state = JSON.stringify(options);
  select.hidden = !options.length;
  if (state !== select.state) {
    select.state = state;
    select.replaceChildren(...options.map(([value, text]) => Object.assign(made("option", "", text), { value })));
  }
  if (options.length) select.value = chosen;
}
