// The subjects of a stream as a tree. components/nats/subject_tree.py sends the levels that are open.

import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 456; // px
const COLUMNS = [
  { label: "Subject", branch: true },
  { label: "Subjects", number: true },
  { label: "Messages", number: true },
  { label: "Per second", number: true },
];
const LEAF = -1;
const SHUT = 0;
const SEARCHED = 2; // open because of the search
const TREE = `
.lb-subject_tree td.lb-branch { max-width: 40rem; width: 60%; }
.lb-branch > div { display: flex; align-items: center; padding-left: calc(var(--depth) * 1.3rem); }
.lb-branch button { all: unset; box-sizing: border-box; cursor: pointer; height: 100%; min-height: 28px; }
.lb-branch button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
.lb-branch button:disabled { cursor: default; }
.lb-branch button:first-child { flex: none; width: 1.6rem; text-align: center; font-size: 1.2rem; line-height: 1; }
.lb-branch button:first-child:not(:disabled):hover { color: var(--st-primary-color); }
.lb-branch button:last-child { overflow: hidden; text-overflow: ellipsis; padding-right: 0.3rem; }
.lb-branch button:last-child:not(:disabled):hover { text-decoration: underline; }
.lb-branch .lb-more { opacity: 0.6; font-style: italic; }
@media (max-width: 640px) { .lb-subject_tree td.lb-branch { width: auto; max-width: 11rem; } .lb-subject_tree :is(th, td) { padding: 0 0.4rem; } }
@media (pointer: coarse) { .lb-branch button { min-height: 38px; } .lb-branch button:first-child { width: 2.4rem; } }`;

class Branches extends Rows {
  // `report` is called with "+" and a path to open or shut, or "=" and a filter.
  constructor(height, report) {
    super(height);
    this.report = report;
  }

  fill(cell, kind, text) {
    if (!kind.branch) return say(cell, text);
    const state = JSON.stringify(text);
    if (cell.state === state) return;
    cell.state = state;
    const { path, depth, token, open, filter, chooses } = text;
    if (!cell.firstChild) {
      cell.className = "lb-branch";
      const inner = made("div");
      inner.append(made("button"), made("button"));
      for (const button of inner.children) button.type = "button";
      cell.append(inner);
    }
    const [toggle, name] = cell.firstChild.children;
    cell.firstChild.style.setProperty("--depth", depth);
    toggle.disabled = open === LEAF || open === SEARCHED;
    say(toggle, open === LEAF ? "" : open === SHUT ? "▸" : "▾");
    if (open === LEAF) toggle.removeAttribute("aria-expanded");
    else toggle.setAttribute("aria-expanded", String(open !== SHUT));
    toggle.setAttribute("aria-label", open === LEAF ? "" : `Levels of ${path}`);
    toggle.onclick = () => this.report(`+${path}`);
    say(name, token);
    name.title = filter && chooses ? `Show only ${filter}` : path.trim();
    name.disabled = !filter || !chooses;
    name.className = path.startsWith(" ") ? "lb-more" : "";
    name.onclick = () => this.report(`=${filter}`);
  }
}

class SubjectTree extends Element {
  build() {
    this.rows = new Branches(HEIGHT, (what) => this.clicked(what));
    this.note = made("div", "lb-note");
    this.root.append(this.rows.root, this.note);
  }

  draw() {
    const { note, ...rows } = this.content;
    const { chooses } = this.settings;
    const names = Object.keys(rows).sort((one, other) => rows[one][0] - rows[other][0]);
    this.rows.root.hidden = !names.length;
    this.rows.setColumns(COLUMNS);
    this.rows.show(names.map((key) => {
      const [, depth, token, open, filter, ...numbers] = rows[key];
      return { key, cells: [{ path: key.slice(1), depth, token, open, filter, chooses }, ...numbers] };
    }));
    say(this.note, note);
  }
}

define("subject_tree", SubjectTree, STYLE + TREE);
