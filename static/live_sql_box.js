// A box for SQL: monospaced, with completion of known names, and a mistake shown at its place.
// components/explore/sql_box.py makes it.

import { defineComponent, made } from "./element.js";

const MOST = 8; // names offered at a time
const STYLE = `
.lb-sql textarea { width: 100%; box-sizing: border-box; min-height: 7.5rem; resize: vertical; padding: 0.6rem 0.7rem;
  font: 0.85rem/1.5 var(--st-code-font, ui-monospace, monospace); color: inherit; tab-size: 4; white-space: pre; overflow: auto;
  background: var(--st-secondary-background-color, #f0f1ef); border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; }
.lb-sql textarea:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
.lb-sql-row { display: flex; flex-wrap: wrap; align-items: center; gap: 0.4rem 0.6rem; min-height: 2.2rem; margin-top: 0.35rem; }
.lb-sql button { font: inherit; font-size: 0.85rem; cursor: pointer; color: inherit; background: transparent; padding: 0.2rem 0.8rem;
  border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; }
.lb-sql button.lb-run { border-color: var(--st-primary-color); font-weight: 600; }
.lb-sql button[aria-selected="true"] { border-color: var(--st-primary-color); background: color-mix(in srgb, var(--st-primary-color) 15%, transparent); }
.lb-sql button:disabled { opacity: 0.5; cursor: default; }
.lb-sql button:focus-visible { outline: 2px solid var(--st-primary-color); }
.lb-sql .lb-hint { margin-left: auto; font-size: 0.75rem; opacity: 0.65; }
.lb-sql pre { margin: 0.3rem 0 0; padding: 0; font: 0.85rem/1.4 var(--st-code-font, ui-monospace, monospace); background: none; overflow-x: auto; }
.lb-sql pre b, .lb-mistake p { color: #d6453d; font-weight: 600; }
.lb-mistake p { margin: 0.2rem 0 0.6rem; font-size: 0.875rem; overflow-wrap: anywhere; }
.lb-mistake p.lb-quiet { color: inherit; font-weight: inherit; opacity: 0.65; }
.lb-sql pre:empty { display: none; }
@media (pointer: coarse) { .lb-sql textarea { font-size: 16px; } .lb-sql button { padding: 0.5rem 1rem; } .lb-sql .lb-hint { display: none; } }`;

const WORD = /[\p{L}\p{N}_]+$/u;

// Completions of the word before the caret: the names that match, best first, and the typed text that they replace.
export function completions(before, names) {
  const typed = WORD.exec(before)?.[0] ?? "";
  if (!typed) return { typed, found: [] };
  const low = typed.toLowerCase();
  const fits = names.filter((name) => name.toLowerCase().startsWith(low) && name !== typed);
  const inside = names.filter((name) => !name.toLowerCase().startsWith(low) && name.toLowerCase().includes(low));
  return { typed, found: [...fits, ...(low.length > 1 ? inside : [])].slice(0, MOST) };
}

// A name as SQL writes it.
export function written(name) {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

class Box {
  constructor() {
    this.root = made("div", "lb-sql");
    this.text = made("textarea");
    this.text.spellcheck = false;
    this.text.autocapitalize = "off";
    this.row = made("div", "lb-sql-row");
    this.run = made("button", "lb-run", "Run");
    this.end = made("button", "", "Stop");
    this.end.type = "button";
    this.offers = made("span");
    this.offers.setAttribute("role", "listbox");
    this.offers.setAttribute("aria-label", "Names");
    this.offers.style.display = "contents";
    this.hint = made("span", "lb-hint", "Ctrl+Enter runs · Tab completes");
    this.mistake = made("div", "lb-mistake");
    this.mistake.setAttribute("role", "alert");
    this.row.append(this.run, this.end, this.offers, this.hint);
    this.root.append(this.text, this.row, this.mistake);
    this.names = [];
    this.found = [];
    this.at = 0;
    this.run.addEventListener("click", () => this.send());
    this.end.addEventListener("click", () => this.report("stopped", this.given));
    this.text.addEventListener("input", () => this.offer());
    this.text.addEventListener("click", () => this.offer());
    this.text.addEventListener("keydown", (event) => this.key(event));
  }

  receive({ data, setStateValue }) {
    this.report = setStateValue;
    this.names = data.names;
    this.text.setAttribute("aria-label", data.label);
    // The viewer's text stays unless the server's text has changed.
    if (data.sql !== this.given) this.text.value = this.given = data.sql;
    this.stopped = this.end.disabled = data.stopped;
    const { text, line, column } = data.stopped ? { text: "Stopped. Run asks again." } : data.mistake ?? {};
    if (!text) return this.mistake.replaceChildren();
    const place = made("pre", "", line ? this.given.split("\n")[line - 1] : "");
    if (line) place.append("\n", made("b", "", `${" ".repeat(Math.max(0, column - 1))}^`));
    this.mistake.replaceChildren(place, made("p", data.stopped ? "lb-quiet" : "", line ? `Line ${line}: ${text}` : text));
  }

  send() {
    if (this.text.value === this.given && this.stopped) return this.report("stopped", null);
    if (this.text.value === this.given && this.sent === this.given) return;
    this.given = this.sent = this.text.value;
    this.report("sql", this.text.value);
  }

  offer() {
    const before = this.text.value.slice(0, this.text.selectionStart);
    const { typed, found } = completions(before, this.names);
    [this.typed, this.found, this.at] = [typed, found, 0];
    this.offers.replaceChildren(...found.map((name, i) => {
      const button = made("button", "", name);
      button.type = "button";
      button.setAttribute("role", "option");
      button.addEventListener("mousedown", (event) => event.preventDefault()); // the box keeps the caret
      button.addEventListener("click", () => this.take(i));
      return button;
    }));
    this.mark();
  }

  mark() {
    [...this.offers.children].forEach((each, i) => each.setAttribute("aria-selected", String(i === this.at)));
  }

  take(i) {
    const [name, end] = [this.found[i], this.text.selectionStart];
    this.text.setRangeText(written(name), end - this.typed.length, end, "end");
    this.text.focus();
    this.offer();
  }

  key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.send();
    } else if (this.found.length && event.key === "Tab" && !event.shiftKey) {
      event.preventDefault();
      this.take(this.at);
    } else if (this.found.length > 1 && event.altKey && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      event.preventDefault();
      this.at = (this.at + (event.key === "ArrowDown" ? 1 : this.found.length - 1)) % this.found.length;
      this.mark();
    } else if (event.key === "Escape") {
      this.found = [];
      this.offers.replaceChildren();
    }
    event.stopPropagation(); // Streamlit's own keys
  }
}

defineComponent("sql_box", Box, STYLE);
