// A table of things on the server, such as consumers, that keeps its order. components/nats/consumers.py sends it.

import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 456; // px
const MORE = `
.lb-server_list .lb-trouble { padding: 0 0 0.5rem; font-size: 0.875rem; overflow-wrap: anywhere; }
.lb-server_list .lb-trouble::before { content: "⚠ "; }
.lb-server_list .lb-trouble:empty { display: none; }
.lb-server_list .lb-note { overflow-wrap: anywhere; }
.lb-server_list td.lb-share { width: 12rem; min-width: 9rem; }
.lb-server_list .lb-share span { min-width: 3rem; }`;

class ServerList extends Element {
  build() {
    this.trouble = made("div", "lb-trouble");
    this.rows = new Rows(HEIGHT);
    this.note = made("div", "lb-note");
    this.root.append(this.trouble, this.rows.root, this.note);
    // Rows do not change places under the pointer.
    this.rows.root.addEventListener("pointerenter", ({ pointerType }) => (this.pointed = pointerType === "mouse"));
    this.rows.root.addEventListener("pointerleave", () => {
      this.pointed = false;
      this.due();
    });
  }

  draw() {
    const { note, trouble, ...rows } = this.content;
    const names = Object.keys(rows);
    const places = this.pointed ? this.order : null;
    const place = (name) => places?.get(name) ?? (places ? places.size : 0) + rows[name][0]; // new ones come last
    names.sort((one, other) => place(one) - place(other));
    this.order = new Map(names.map((name, i) => [name, i]));
    this.rows.root.hidden = !names.length;
    this.rows.setColumns(this.settings.columns);
    this.rows.show(names.map((key) => ({ key, cells: rows[key][1], share: rows[key][2], points: rows[key][3] })));
    say(this.trouble, trouble);
    say(this.note, note);
  }
}

define("server_list", ServerList, STYLE + MORE);
