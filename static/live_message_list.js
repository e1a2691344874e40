// The newest messages as they arrived; they can be held and searched. components/tables/messages.py sends them.

import { define, made, say } from "./element.js";
import { HELD, HeldRows } from "./held_rows.js";

const PAYLOAD = `
.lb-message_list pre { margin: 0.3rem 0 0; padding: 0.8rem 1rem; max-height: 240px; overflow: auto; box-sizing: border-box; font-size: 0.875rem;
  white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 0.4rem; background: var(--st-secondary-background-color, #f0f1ef); }
.lb-message_list pre:empty { display: none; }`;

class MessageList extends HeldRows {
  height = 318;
  what = "messages";

  build() {
    super.build();
    this.newest = made("div", "lb-note");
    this.headers = made("pre");
    this.payload = made("pre");
    this.payload.tabIndex = 0; // so that it can be scrolled by keys
    this.root.append(this.newest, this.headers, this.payload);
    this.holdAt(this.payload);
  }

  columns() {
    // The name of a row ends with the message's sequence.
    if (this.settings.opens && !this.rows.opened) this.rows.open((name) => this.clicked(name.split(".")[1].replace(/^0+/, "")));
    return this.settings.columns.map((label, i) => ({ label, number: i === 2 || i === 3 }));
  }

  drawRest() {
    const { newest, headers, payload } = this.shown;
    say(this.newest, newest ?? "No message has arrived yet.");
    say(this.headers, headers ?? "");
    say(this.payload, payload ?? "");
  }
}

define("message_list", MessageList, HELD + PAYLOAD);
