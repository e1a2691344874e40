// A table whose rows have keys: an update changes only cells that differ, so the viewer's selection stays.

import { made, say } from "./element.js";

export const STYLE = `
.lb-rows { overflow: auto; border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; }
.lb-rows table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.875rem; font-variant-numeric: tabular-nums; margin: 0; }
.lb-rows :is(th, td) { height: 35px; box-sizing: border-box; padding: 0 0.6rem; text-align: left; white-space: nowrap; max-width: 26rem;
  overflow: hidden; text-overflow: ellipsis; border: 0; border-bottom: 1px solid color-mix(in srgb, currentColor 9%, transparent); }
.lb-rows tbody tr:last-child td { border-bottom: 0; }
.lb-rows th { position: sticky; top: 0; z-index: 1; font-weight: 400; background: var(--st-secondary-background-color, #f0f1ef);
  color: color-mix(in srgb, var(--st-text-color, #222) 75%, transparent); }
.lb-rows :is(th, td).lb-number { text-align: right; }
.lb-rows th button { all: unset; cursor: pointer; box-sizing: border-box; width: 100%; overflow: hidden; text-overflow: ellipsis; }
.lb-rows th button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
.lb-rows th[aria-sort="ascending"] button::after { content: " ↑"; }
.lb-rows th[aria-sort="descending"] button::after { content: " ↓"; }
.lb-rows td.lb-share { width: 55%; }
.lb-share > div { display: flex; align-items: center; gap: 0.8rem; }
.lb-share i { flex: 1; height: 0.45rem; border-radius: 1rem; overflow: hidden; min-width: 2rem;
  background: color-mix(in srgb, currentColor 12%, transparent); }
.lb-share b { display: block; height: 100%; border-radius: 1rem; background: var(--st-primary-color, #0b6e7f); }
.lb-share span { min-width: 4.5rem; text-align: right; }
.lb-rows svg { display: block; width: 9rem; height: 1.5rem; overflow: visible; color: var(--st-primary-color, #0b6e7f); }
.lb-rows path { fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.lb-rows + .lb-note, .lb-note { font-size: 0.875rem; opacity: 0.7; padding-top: 0.3rem; }
.lb-note:empty { display: none; }
.lb-opens :is(th, td):nth-child(5) { max-width: 12rem; } /* headers, so that a payload is seen beside them */
.lb-opens tbody tr { cursor: pointer; }
.lb-opens tbody tr:hover { background: color-mix(in srgb, currentColor 5%, transparent); }
.lb-opens tbody tr[aria-current] { background: color-mix(in srgb, var(--st-primary-color, #0b6e7f) 16%, transparent); }
.lb-opens tbody tr:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
.lb-missing { opacity: 0.5; }
@media (pointer: coarse) { .lb-rows :is(th, td) { height: 42px; } }`;

const SVG = "http://www.w3.org/2000/svg";
const HIGH = 20; // in a line's own units

function drawn() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.append(document.createElementNS(SVG, "path"), document.createElementNS(SVG, "title"));
  return svg;
}

// A line from zero up to its greatest value. A single point is drawn as a horizontal line.
function course(svg, points) {
  const state = points.join(" ");
  if (svg.state === state) return;
  svg.state = state;
  const most = Math.max(0, ...points);
  const values = points.length === 1 ? [points[0], points[0]] : points;
  let path = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const joined = i > 0 && values[i - 1] !== null;
    path += `${joined ? "L" : "M"}${i} ${(HIGH * (1 - value / (most || 1))).toFixed(2)}`;
  });
  svg.setAttribute("viewBox", `0 -1 ${Math.max(1, values.length - 1)} ${HIGH + 2}`);
  svg.firstChild.setAttribute("d", path);
  say(svg.lastChild, points.length ? `At most ${most.toLocaleString("en")}` : "");
}

export class Rows {
  // `chosen`, if given, is called with the number of the column whose name was clicked.
  constructor(height, chosen) {
    this.root = made("div", "lb-rows");
    this.root.style.maxHeight = `${height}px`;
    this.root.tabIndex = 0; // so that it can be scrolled by keys
    this.chosen = chosen;
    this.head = document.createElement("tr");
    this.body = document.createElement("tbody");
    const [table, head] = [document.createElement("table"), document.createElement("thead")];
    head.append(this.head);
    table.append(head, this.body);
    this.root.append(table);
    this.rows = new Map();
    this.columns = "";
  }

  // Columns: { label, number, share, line }; a share is a number with a bar, a line has no text.
  setColumns(columns) {
    const state = JSON.stringify(columns);
    if (state === this.columns) return;
    this.columns = state;
    this.kinds = columns;
    this.rows.clear();
    this.body.replaceChildren();
    this.head.replaceChildren(...columns.map(({ label, number }, i) => {
      const cell = made("th", number ? "lb-number" : "");
      cell.scope = "col";
      if (!this.chosen) {
        cell.textContent = cell.title = label;
        return cell;
      }
      const button = made("button", "", label);
      button.type = "button";
      button.onclick = () => this.chosen(i);
      cell.append(button);
      return cell;
    }));
  }

  sorted(column, descending) {
    [...this.head.children].forEach((cell, i) => {
      if (i !== column) cell.removeAttribute("aria-sort");
      else cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  }

  // Rows in order: { key, cells, share, points }. Cells are text; share is the length of the bar, 0 to 1; points are
  // the values of the line at equal distances, from zero up, null where there is none.
  show(rows) {
    const keys = new Set(rows.map(({ key }) => key));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      row.remove();
      this.rows.delete(key);
    }
    let place = this.body.firstChild;
    for (const { key, cells, share, points } of rows) {
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = this.make(key)));
      cells.forEach((text, i) => this.fill(row.children[i], this.kinds[i], text, share, points));
      if (row === place) place = place.nextSibling;
      else this.body.insertBefore(row, place);
    }
  }

  // Call `opened` with the key of a row that the viewer opens. Call this method before the first rows.
  open(opened) {
    this.opened = opened;
    this.root.classList.add("lb-opens");
  }

  // The row that is open, "" for none.
  mark(open) {
    for (const [key, row] of this.rows) {
      if (key === open) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  }

  // Scroll the table, and not the page, to a row.
  reveal(key) {
    const row = this.rows.get(key);
    if (!row) return;
    const { offsetTop, offsetHeight } = row;
    const { scrollTop, clientHeight } = this.root;
    const seen = offsetTop - offsetHeight >= scrollTop && offsetTop + offsetHeight <= scrollTop + clientHeight;
    if (!seen) this.root.scrollTop = offsetTop - clientHeight / 2;
  }

  make(key) {
    const row = document.createElement("tr");
    if (this.opened) this.makeOpen(row, key);
    for (const { number, share, line } of this.kinds) {
      const cell = made("td", share ? "lb-share" : number ? "lb-number" : "");
      if (share) {
        const [inner, bar] = [made("div"), made("i")];
        bar.append(made("b"));
        inner.append(bar, made("span"));
        cell.append(inner);
      }
      if (line) cell.append(drawn());
      row.append(cell);
    }
    return row;
  }

  makeOpen(row, key) {
    row.tabIndex = 0;
    row.onclick = () => {
      if (!getSelection()?.toString()) this.opened(key); // a click that ends a selection does not open the row
    };
    row.onkeydown = (event) => {
      const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
      if (event.key === "Enter") this.opened(key);
      else if (next) next.focus();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
  }

  fill(cell, { share: isShare, line }, text, share, points) {
    if (line) return course(cell.firstChild, points ?? []);
    if (isShare) {
      say(cell.querySelector("span"), text);
      cell.querySelector("i").hidden = text === "";
      const width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
      const { style } = cell.querySelector("b");
      if (style.width !== width) style.width = width;
      return;
    }
    cell.classList.toggle("lb-missing", text === "");
    const shown = text === "" ? "n/a" : text;
    if (cell.textContent === shown) return;
    cell.textContent = cell.title = shown;
  }
}
