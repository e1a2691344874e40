// The messages that a search has found so far, in pages, with its progress. components/explore/message_search.py sends
// them.

import { channel } from "./channel.js";
import { define, Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const HEIGHT = 318; // px
const ON_PAGE = 50;
const TOOLS = `
.lb-found { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem; padding-bottom: 0.4rem; font-size: 0.875rem; }
.lb-found progress { width: 9rem; height: 0.5rem; accent-color: var(--st-primary-color); }
.lb-found button { font: inherit; color: inherit; cursor: pointer; height: 32px; padding: 0 0.8rem; background: transparent;
  border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; }
.lb-found button:hover:not(:disabled) { border-color: currentColor; }
.lb-found button:disabled { opacity: 0.4; cursor: default; }
.lb-found button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
.lb-found span { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
@media (pointer: coarse) { .lb-found button { height: 40px; } }`;

class FoundMessages extends Element {
  build() {
    const tools = made("div", "lb-found");
    this.bar = made("progress");
    this.bar.setAttribute("aria-label", "Searched");
    this.said = made("span");
    this.said.setAttribute("role", "status");
    this.stop = this.button("Stop", () => {
      if (channel().ready) channel().say(this.number, { stop: true }); // at once, also while the page runs
      else this.clicked("stop");
    });
    this.again = this.button("Search again", () => this.clicked("again"));
    this.back = this.button("‹ Newer", () => this.turn(-1));
    this.forth = this.button("Older ›", () => this.turn(1));
    this.place = made("span");
    tools.append(this.bar, this.said, this.stop, this.again, this.back, this.place, this.forth);
    this.rows = new Rows(HEIGHT);
    this.rows.open((name) => this.clicked(name.slice(1).replace(/^0+/, "")));
    this.page = 0;
    this.root.append(tools, this.rows.root);
  }

  get state() { return this.page; }
  set state(page) { this.page = page; }

  button(text, onclick) {
    const button = made("button", "", text);
    button.type = "button";
    button.onclick = onclick;
    return button;
  }

  turn(by) {
    this.page += by;
    this.rows.root.scrollTop = 0;
    this.due();
  }

  draw() {
    const { said, progress, state, ...found } = this.content;
    this.bar.value = progress;
    this.bar.hidden = state === "ended";
    this.stop.hidden = state !== "running";
    this.again.hidden = state !== "paused";
    say(this.said, said);
    const names = Object.keys(found).sort().reverse();
    const last = Math.max(0, Math.ceil(names.length / ON_PAGE) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    const start = this.page * ON_PAGE;
    const shown = names.slice(start, start + ON_PAGE);
    for (const part of [this.back, this.place, this.forth]) part.hidden = !last;
    this.back.disabled = !this.page;
    this.forth.disabled = this.page === last;
    say(this.place, `${start + 1} to ${start + shown.length} of ${names.length}`);
    this.rows.root.hidden = !names.length;
    this.rows.setColumns(this.settings.columns.map((label, i) => ({ label, number: i === 2 || i === 3 })));
    this.rows.show(shown.map((name) => ({ key: name, cells: found[name] })));
    const { open } = this.settings;
    this.rows.mark(open);
    if (open === this.open || !shown.includes(open)) return;
    this.open = open;
    requestAnimationFrame(() => this.rows.reveal(open));
  }
}

define("found_messages", FoundMessages, STYLE + TOOLS);
