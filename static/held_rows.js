// A live table of rows that can be held and searched.

import { Element, made, say } from "./element.js";
import { Rows, STYLE } from "./rows.js";

const TOOLS = `
.lb-tools { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem; padding-bottom: 0.4rem; font-size: 0.875rem; }
.lb-tools input { flex: 1 1 8rem; max-width: 16rem; height: 32px; padding: 0 0.6rem; box-sizing: border-box; font: inherit; color: inherit;
  background: transparent; border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; }
.lb-tools button { font: inherit; color: inherit; cursor: pointer; height: 32px; min-width: 6rem; padding: 0 0.8rem; background: transparent;
  border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; }
.lb-tools button:hover { border-color: currentColor; }
.lb-tools button[aria-pressed="true"] { border-color: var(--st-primary-color); color: var(--st-primary-color); }
.lb-tools :is(button, input):focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
.lb-tools span { opacity: 0.7; font-variant-numeric: tabular-nums; }
@media (pointer: coarse) { .lb-tools :is(input, button) { height: 40px; font-size: 16px; } } /* phones zoom in on smaller text */`;

export const HELD = STYLE + TOOLS;

export class HeldRows extends Element {
  // The content's entries whose names begin with "r" are the rows: their cells as text. To be defined by each kind:
  // columns() of the shown content, as in rows.js, and drawRest(), which draws everything besides the rows.
  height = 400; // px
  what = "rows";
  columns() {}
  drawRest() {}

  build() {
    const tools = made("div", "lb-tools");
    this.search = made("input");
    this.search.type = "search";
    this.search.placeholder = `Search these ${this.what}`;
    this.search.setAttribute("aria-label", `Search these ${this.what}`);
    this.search.oninput = () => this.due();
    this.search.onkeydown = (event) => event.stopPropagation(); // single letters are shortcuts of the page
    this.button = made("button");
    this.button.type = "button";
    this.button.onclick = () => {
      this.held = !this.held;
      this.due();
    };
    this.held = this.pointed = false;
    this.waiting = made("span");
    tools.append(this.search, this.button, this.waiting);
    this.rows = new Rows(this.height);
    this.note = made("div", "lb-note");
    this.root.append(tools, this.rows.root, this.note);
    this.holdAt(this.rows.root);
  }

  // The table stands still while a viewer points at this part.
  holdAt(part) {
    part.addEventListener("pointerenter", ({ pointerType }) => {
      this.pointed = pointerType === "mouse";
      this.due();
    });
    part.addEventListener("pointerleave", () => {
      this.pointed = false;
      this.due();
    });
  }

  get state() { return this.search.value; }
  set state(typed) { this.search.value = typed; }

  draw() {
    const still = (this.held || this.pointed) && this.shown;
    if (!still) this.shown = this.content;
    const names = (content) => Object.keys(content).filter((name) => name[0] === "r").sort().reverse();
    say(this.button, this.held ? "Continue" : "Hold");
    this.button.setAttribute("aria-pressed", String(this.held));
    const newer = still ? names(this.content).filter((name) => !(name in this.shown)).length : 0;
    say(this.waiting, !still ? "" : `${this.held ? "Held" : "Held while you point at it"}${newer ? `, ${newer} new` : ""}`);

    const typed = this.search.value.trim().toLowerCase();
    const all = names(this.shown);
    const found = typed
      ? all.filter((name) => this.shown[name].some((cell) => cell.toLowerCase().includes(typed)))
      : all;
    this.rows.root.hidden = !found.length;
    this.rows.setColumns(this.columns());
    this.rows.show(found.map((name) => ({ key: name, cells: this.shown[name] })));
    const none = typed ? `None of these ${all.length} ${this.what} contains “${this.search.value.trim()}”.` : "";
    say(this.note, found.length ? (typed ? `${found.length} of ${all.length} ${this.what}.` : "") : none);
    this.drawRest();
  }
}
