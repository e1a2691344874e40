// The newest value of each series, as a table that can be sorted. components/tables/latest_values.py sends it.

import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";
import { withUnit } from "./units.js";

const HEIGHT = 11 * 35 + 2; // px: the header and ten rows, so that a top ten is visible as a whole
const PLAIN = new Intl.NumberFormat("en", { maximumFractionDigits: 15, useGrouping: false });
const BY_NAME = new Intl.Collator("en", { numeric: true });

class LatestValues extends Element {
  build() {
    this.sort = { column: 1, descending: true };
    this.rows = new Rows(HEIGHT, (column) => this.choose(column));
    this.note = made("div", "lb-note");
    this.root.append(this.rows.root, this.note);
    // Rows do not change places under the pointer.
    this.rows.root.addEventListener("pointerenter", ({ pointerType }) => (this.pointed = pointerType === "mouse"));
    this.rows.root.addEventListener("pointerleave", () => {
      this.pointed = false;
      this.due();
    });
  }

  get state() { return this.sort; }
  set state(sort) { this.sort = sort; }

  choose(column) {
    const descending = this.sort.column === column ? !this.sort.descending : column === 1;
    this.sort = { column, descending };
    this.order = null;
    this.due();
  }

  draw() {
    const { columns: [by, column], most, unit } = this.settings;
    const { total, low, high } = this.content;
    const names = Object.keys(this.content).filter((name) => name[0] === "=");
    this.rows.root.hidden = !total;
    this.rows.setColumns([{ label: by }, { label: column, share: true }]);
    this.rows.sorted(this.sort.column, this.sort.descending);
    this.arrange(names);
    this.rows.show(names.map((name) => {
      const value = this.content[name];
      const share = (value - low) / (high - low);
      return { key: name, cells: [name.slice(1), unit ? withUnit(value, unit) : typeof value === "number" ? PLAIN.format(value) : value], share };
    }));
    const none = `No row within the look-back has a value of ${column}.`;
    say(this.note, !total ? none : total > most ? `The ${most} largest of ${total.toLocaleString("en")}.` : "");
  }

  arrange(names) {
    const { column, descending } = this.sort;
    const sign = descending ? -1 : 1;
    const byName = (one, other) => BY_NAME.compare(one, other);
    if (this.pointed && this.order) {
      const place = (name) => this.order.get(name) ?? Infinity; // new ones come last
      names.sort((one, other) => (place(one) - place(other) || 0));
    } else if (column === 0) names.sort((one, other) => sign * byName(one, other));
    else names.sort((one, other) => sign * (this.content[one] - this.content[other]) || byName(one, other));
    this.order = new Map(names.map((name, i) => [name, i]));
  }
}

define("latest_values", LatestValues, STYLE);
