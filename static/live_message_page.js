// A page of the messages that a stream holds. components/explore/messages.py makes it.

import { made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 318; // px
const sheet = made("style", "", STYLE);

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

function draw(component) {
  const { parentElement } = component;
  if (!sheet.isConnected) document.head.append(sheet);
  const page = (parentElement.lookback ??= new MessagePage());
  if (page.root.parentNode !== parentElement) parentElement.replaceChildren(page.root);
  page.receive(component);
  return () => {};
}

const waiting = Array.isArray(self.lookback_message_page) ? self.lookback_message_page : [];
self.lookback_message_page = { push: ([component, done]) => done(draw(component)) };
waiting.forEach(self.lookback_message_page.push);
