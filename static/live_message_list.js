// The newest messages as they arrived. components/tables/messages.py sends them.

import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 318; // px
const PAYLOAD = `
.lb-message_list pre { margin: 0.3rem 0 0; padding: 0.8rem 1rem; max-height: 240px; overflow: auto; box-sizing: border-box; font-size: 0.875rem;
  white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 0.4rem; background: var(--st-secondary-background-color, #f0f1ef); }
.lb-message_list pre:empty { display: none; }`;

class MessageList extends Element {
  build() {
    this.rows = new Rows(HEIGHT);
    this.note = made("div", "lb-note");
    this.headers = made("pre");
    this.payload = made("pre");
    this.payload.tabIndex = 0; // so that it can be scrolled by keys
    this.root.append(this.rows.root, this.note, this.headers, this.payload);
    this.root.addEventListener("pointerenter", ({ pointerType }) => (this.pointed = pointerType === "mouse"));
    this.root.addEventListener("pointerleave", () => {
      this.pointed = false;
      this.due();
    });
  }

  draw() {
    const { newest, headers, payload, ...rows } = this.content;
    if (this.pointed && this.drawn) return;
    const names = Object.keys(rows).sort().reverse();
    this.drawn = names.length > 0;
    this.rows.root.hidden = !names.length;
    this.rows.setColumns(this.settings.columns.map((label, i) => ({ label, number: i === 2 || i === 3 })));
    this.rows.show(names.map((name) => ({ key: name, cells: rows[name] })));
    say(this.note, newest ?? "No message has arrived yet.");
    say(this.headers, headers ?? "");
    say(this.payload, payload ?? "");
  }
}

define("message_list", MessageList, STYLE + PAYLOAD);
