// The payload's fields, and the patterns of subjects by which they are split. components/tables/fields.py sends them.

import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 456; // px
const PATTERNS = 195; // px: half a row shows that there are more
const ALL = "*"; // the key of the row for all subjects; keys of patterns begin with ~
const MORE = `
.lb-field_list .lb-changes { margin: 0 0 0.6rem; padding: 0.5rem 0.8rem; list-style: none; border-radius: 0.4rem; font-size: 0.875rem;
  overflow-wrap: anywhere; border-left: 3px solid var(--st-primary-color, #0b6e7f);
  background: color-mix(in srgb, var(--st-primary-color, #0b6e7f) 8%, transparent); }
.lb-field_list .lb-changes[hidden] { display: none; }
.lb-field_list .lb-changes li { margin: 0; padding: 0.1rem 0; font-size: inherit; }
.lb-field_list .lb-changes code { font-size: inherit; padding: 0 0.2em; background: color-mix(in srgb, currentColor 9%, transparent);
  border-radius: 0.2rem; color: inherit; }
.lb-field_list .lb-patterns { margin-bottom: 0.6rem; }
.lb-field_list .lb-patterns td:first-child { max-width: 40rem; }`;

class FieldList extends Element {
  build() {
    this.changes = made("ul", "lb-changes");
    this.patterns = new Rows(PATTERNS);
    this.patterns.root.classList.add("lb-patterns");
    this.patterns.open((key) => this.clicked(key === ALL ? "" : key.slice(1)));
    this.rows = new Rows(HEIGHT);
    this.note = made("div", "lb-note");
    this.root.append(this.changes, this.patterns.root, this.rows.root, this.note);
  }

  draw() {
    const { changes = [], note } = this.content;
    this.drawChanges(changes);
    const inOrder = (mark) => Object.keys(this.content)
      .filter((name) => name[0] === mark)
      .sort((one, other) => this.content[one][0] - this.content[other][0]);

    const patterns = inOrder("~");
    const chosen = this.settings.pattern;
    const several = patterns.length > 1 || chosen;
    this.patterns.root.hidden = !several;
    this.patterns.setColumns([{ label: "Subjects" }, { label: "Of the rows", share: true }]);
    this.patterns.show(!several ? [] : [
      { key: ALL, cells: ["All", ""], share: 1 },
      ...patterns.map((key) => ({ key, cells: [key.slice(1), this.content[key][1]], share: this.content[key][2] })),
    ]);
    this.patterns.mark(chosen ? `~${chosen}` : ALL);

    const names = inOrder("=");
    this.rows.root.hidden = !names.length;
    this.rows.setColumns(this.settings.columns.map((label, i) => ({ label, number: i === 2 || i > 3 })));
    this.rows.show(names.map((name) => ({ key: name, cells: this.content[name].slice(1) })));
    say(this.note, note);
  }

  drawChanges(changes) {
    this.changes.hidden = !changes.length;
    const state = JSON.stringify(changes);
    if (this.said === state) return;
    this.said = state;
    this.changes.replaceChildren(...changes.map(([before, name, after]) => {
      const item = made("li");
      item.append(before);
      if (name) item.append(made("code", "", name));
      item.append(after);
      return item;
    }));
  }
}

define("field_list", FieldList, STYLE + MORE);
