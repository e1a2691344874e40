// A page of the messages that a stream holds. components/explore/messages.py makes it.

import { defineComponent, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 318; // px
class MessagePage {
  constructor() {
    this.root = made("div", "lb-message_page");
    this.rows = new Rows(HEIGHT);
    this.rows.open((seq) => this.clicked(seq));
    this.note = made("div", "lb-note");
    this.root.append(this.rows.root, this.note);
  }

  receive({ data, setTriggerValue }) {
    this.clicked = (seq) => setTriggerValue("clicked", seq);
    const { columns, rows, open, note } = data;
    this.rows.root.hidden = !rows.length;
    this.rows.setColumns(columns.map((label, i) => ({ label, number: i === 2 || i === 3 })));
    this.rows.show(rows.map((cells) => ({ key: cells[2], cells })));
    this.rows.mark(open);
    say(this.note, note);
    if (open === this.open) return;
    this.open = open;
    requestAnimationFrame(() => this.rows.reveal(open));
  }
}

defineComponent("message_page", MessagePage, STYLE);
