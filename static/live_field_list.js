// The payload's fields. components/tables/fields.py sends them.

import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 456; // px

class FieldList extends Element {
  build() {
    this.rows = new Rows(HEIGHT);
    this.note = made("div", "lb-note");
    this.root.append(this.rows.root, this.note);
  }

  draw() {
    const names = Object.keys(this.content).filter((name) => name[0] === "=");
    names.sort((one, other) => this.content[one][0] - this.content[other][0]);
    this.rows.root.hidden = !names.length;
    this.rows.setColumns(this.settings.columns.map((label, i) => ({ label, number: i === 2 || i > 3 })));
    this.rows.show(names.map((name) => ({ key: name, cells: this.content[name].slice(1) })));
    say(this.note, this.content.note);
  }
}

define("field_list", FieldList, STYLE);
