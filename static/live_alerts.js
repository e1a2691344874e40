// The series for which a condition holds now, and its earlier crossings. components/tables/alerts.py sends them.

import { showBehind } from "./behind.js";
import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 320; // px
const STATES = `
.lb-alerts p { margin: 0 0 0.5rem; display: flex; gap: 0.5rem; align-items: baseline; overflow-wrap: anywhere; }
.lb-alerts p::before { content: "✓"; color: #16a06a; font-weight: 700; }
.lb-alerts p.lb-above { color: #d6453d; }
.lb-alerts p.lb-above::before { content: "↗"; color: inherit; }`;

class Alerts extends Element {
  build() {
    this.lines = made("div");
    this.rows = new Rows(HEIGHT);
    this.note = made("div", "lb-note");
    this.rows.open((row) => showBehind(this.root, this.number, { row }));
    this.root.append(this.lines, this.rows.root, this.note);
  }

  draw() {
    const names = Object.keys(this.content);
    const lines = names.filter((name) => name[0] === "h").sort((one, other) => one.slice(1) - other.slice(1));
    while (this.lines.children.length > lines.length) this.lines.lastChild.remove();
    lines.forEach((name, i) => {
      const [above, text] = this.content[name];
      const line = this.lines.children[i] ?? this.lines.appendChild(made("p"));
      line.className = above ? "lb-above" : "";
      say(line, text);
    });
    const rows = names.filter((name) => name[0] === "r").sort().reverse();
    this.rows.root.hidden = !rows.length;
    this.rows.setColumns(this.settings.columns.map((label, i) => ({ label, number: i > 3 })));
    this.rows.show(rows.map((name) => ({ key: name, cells: this.content[name] })));
    const { total } = this.content;
    const part = `The newest ${rows.length} of ${total.toLocaleString("en")} crossings.`;
    say(this.note, total > rows.length ? part : "");
  }
}

define("alerts", Alerts, STYLE + STATES);
