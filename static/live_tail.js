// Log lines as they arrive, the newest at the bottom. components/tables/tail.py sends them.

import { channel } from "./channel.js";
import { define, Element, made, say } from "./element.js";
import { HELD } from "./held_rows.js";
import { levelOf } from "./levels.js";
import { pageZone, watchZone } from "./zone.js";

const HEIGHT = 420; // px
const AT_END = 6; // px from the end within which the lines follow
const whole = (number) => number.toLocaleString("en");

// Drop the lines that are older than the oldest line of the server, `content.from`.
export function kept(content) {
  for (const name in content) if (name[0] === "l" && name < content.from) delete content[name];
  return content;
}

// True if a line contains the typed text, which is in lower case.
export function matches([, level, text], typed) {
  return text.toLowerCase().includes(typed) || levelOf(level).name.toLowerCase().includes(typed);
}

function showTime(at, time) {
  const zone = pageZone();
  const clock = `${zone.clock(time)}.${String(time % 1000).padStart(3, "0")}`;
  say(at, zone.date(time) === zone.date(Date.now()) ? clock : `${zone.date(time)} ${clock}`);
  at.title = `${zone.text(time)} ${zone.called(time)}`;
}

function linkTo(stream, seq) {
  const link = made("a", "", "The whole message in Explore");
  const address = new URL("../explore", import.meta.url);
  address.search = new URLSearchParams({ stream, show: "Messages", seq });
  link.href = address;
  link.target = "_self";
  link.onclick = (event) => event.stopPropagation();
  return link;
}

class Tail extends Element {
  build() {
    this.title = made("p", "lb-canvas-title");
    const tools = made("div", "lb-tools");
    this.search = made("input");
    this.search.type = "search";
    this.search.placeholder = "Search these lines";
    this.search.setAttribute("aria-label", "Search these lines");
    this.search.oninput = () => this.due();
    this.search.onkeydown = (event) => event.stopPropagation(); // single letters are shortcuts of the page
    this.button = made("button");
    this.button.type = "button";
    this.button.onclick = () => (this.still ? this.follow() : this.hold());
    this.waiting = made("span");
    this.waiting.setAttribute("role", "status");
    tools.append(this.search, this.button, this.waiting);
    this.box = made("div", "lb-lines");
    this.box.tabIndex = 0; // so that it can be scrolled, and its lines reached, by keys
    this.box.setAttribute("role", "list");
    this.box.setAttribute("aria-label", "Lines");
    this.box.style.maxHeight = `${HEIGHT}px`;
    this.box.addEventListener("scroll", () => this.scroll());
    this.box.addEventListener("keydown", (event) => this.pressed(event));
    this.note = made("div", "lb-note");
    this.root.append(this.title, tools, this.box, this.note);
    this.lines = new Map(); // by name
    this.open = new Set(); // names
    this.held = this.above = false;
    this.resized = new ResizeObserver(() => this.due()); // also when the element becomes visible
    this.resized.observe(this.root);
    this.unwatch = watchZone(() => {
      for (const [name, line] of this.lines) showTime(line.firstChild, this.shown[name][0]);
    });
    this.root.lookback = this; // for the tests
  }

  end() {
    this.resized.disconnect();
    this.unwatch();
  }

  get state() { return this.search.value; }
  set state(typed) { this.search.value = typed; }

  get still() { return this.held || this.above || this.open.size > 0; }

  merged(known, news) {
    return kept(super.merged(known, news));
  }

  hold() {
    this.held = true;
    this.due();
  }

  follow() {
    this.held = this.above = false;
    for (const name of this.open) this.fold(name);
    this.due();
  }

  // A viewer who has scrolled up is reading there, so the lines stop following.
  scroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.box;
    const above = clientHeight > 0 && scrollHeight - scrollTop - clientHeight > AT_END;
    if (above === this.above || (above && this.pinned === scrollTop)) return;
    this.above = above;
    this.due();
  }

  draw() {
    const { title, empty } = this.settings;
    say(this.title, title);
    this.title.hidden = !title;
    if (!this.still || !this.shown) this.shown = this.content;
    const newer = Math.max(0, this.content.came - this.shown.came);
    say(this.button, this.still ? "Continue" : "Hold");
    this.button.setAttribute("aria-pressed", String(this.still));
    const why = this.held ? "Held" : this.open.size ? "Held while a line is open" : "Held while you read above";
    say(this.waiting, this.still ? `${why}${newer ? `, ${whole(newer)} new` : ""}` : "");

    const names = Object.keys(this.shown).filter((name) => name[0] === "l").sort();
    this.fill(names);
    const typed = this.search.value.trim().toLowerCase();
    let found = 0;
    for (const name of names) {
      const line = this.lines.get(name);
      line.hidden = typed !== "" && !matches(this.shown[name], typed);
      if (!line.hidden) found++;
    }
    this.box.hidden = !found;
    const none = `None of these ${whole(names.length)} lines contains “${this.search.value.trim()}”.`;
    say(this.note, !names.length ? empty : typed ? (found ? `${whole(found)} of ${whole(names.length)} lines.` : none) : "");
    if (this.above || this.open.size) return;
    this.box.scrollTop = this.box.scrollHeight;
    this.pinned = this.box.scrollTop;
  }

  fill(names) {
    const keep = new Set(names);
    for (const [name, line] of this.lines) {
      if (keep.has(name)) continue;
      line.remove();
      this.lines.delete(name);
      this.open.delete(name);
    }
    let place = this.box.firstChild;
    for (const name of names) {
      let line = this.lines.get(name);
      if (!line) this.lines.set(name, (line = this.make(name)));
      if (line === place) place = place.nextSibling;
      else this.box.insertBefore(line, place);
    }
  }

  make(name) {
    const [time, level, text, length] = this.shown[name];
    const [line, at, word, said] = [made("div", "lb-log-line"), made("time"), made("b"), made("span", "lb-log-text")];
    const { meaning, name: written } = levelOf(level);
    showTime(at, time);
    if (meaning) line.dataset.level = meaning;
    say(word, written);
    word.title = level;
    said.textContent = length ? `${text}…` : text;
    line.append(at, word, said);
    const further = text.split("\n").length - 1;
    if (further) line.append(made("i", "", `+${further} ${further === 1 ? "line" : "lines"}`));
    line.setAttribute("role", "listitem");
    line.tabIndex = -1;
    line.onclick = () => {
      if (!getSelection()?.toString()) this.turn(name); // a click that ends a selection does not open the line
    };
    return line;
  }

  // Open a line, or close it.
  turn(name) {
    if (this.open.has(name)) this.fold(name);
    else this.unfold(name);
    this.due();
  }

  fold(name) {
    this.open.delete(name);
    this.lines.get(name)?.classList.remove("lb-open");
  }

  async unfold(name) {
    this.open.add(name);
    const line = this.lines.get(name);
    line.classList.add("lb-open");
    this.reveal(line);
    const length = this.shown[name][3];
    if (!length || line.whole) return;
    const { text, stream, seq, error } = await channel().question(this.number, { line: name });
    if (text === undefined) line.append(made("em", "", error));
    else {
      line.whole = true;
      line.querySelector(".lb-log-text").textContent = text;
      if (stream !== undefined) line.append(linkTo(stream, seq));
      else if (text.length < length) line.append(made("em", "", `The first ${whole(text.length)} of ${whole(length)} characters.`));
    }
    this.reveal(line);
  }

  // Scroll the box, and not the page.
  reveal({ offsetTop, offsetHeight }) {
    const { scrollTop, clientHeight } = this.box;
    const below = offsetTop + Math.min(offsetHeight, clientHeight) - clientHeight;
    if (scrollTop < below) this.box.scrollTop = below;
  }

  pressed(event) {
    const shown = [...this.box.children].filter((line) => !line.hidden);
    const at = shown.indexOf(document.activeElement);
    const to = {
      ArrowUp: at < 0 ? shown.length - 1 : Math.max(0, at - 1),
      ArrowDown: at < 0 ? shown.length - 1 : Math.min(shown.length - 1, at + 1),
      Home: 0,
      End: shown.length - 1,
    }[event.key];
    if (to !== undefined) shown[to]?.focus();
    else if (event.key === "Enter" && at >= 0) this.turn([...this.lines].find(([, line]) => line === shown[at])[0]);
    else if (event.key === "Escape" && this.still) this.follow();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

const LINES = `
.lb-tail { padding: 0.2rem 0 0.6rem; }
.lb-tail .lb-canvas-title { font-weight: 600; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
.lb-lines { position: relative; overflow: auto; overscroll-behavior: contain; border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; padding: 0.3rem 0;
  font-family: var(--st-code-font, monospace); font-size: 0.8125rem; line-height: 1.5; }
.lb-lines[hidden], .lb-log-line[hidden] { display: none; }
.lb-lines:focus-visible, .lb-log-line:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -2px; }
.lb-log-line { --lb-level: currentColor; display: flex; gap: 0.7rem; padding: 0 0.7rem 0 0.5rem; border-left: 3px solid transparent; cursor: pointer; }
.lb-log-line:hover { background: color-mix(in srgb, currentColor 5%, transparent); }
.lb-log-line time { flex: none; opacity: 0.65; font-variant-numeric: tabular-nums; }
.lb-log-line b { flex: none; width: 4.6rem; font-weight: 600; color: var(--lb-level); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-log-line b:empty { display: none; }
.lb-log-text { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: pre; max-height: 1.5em; }
.lb-log-line :is(em, i) { opacity: 0.7; }
.lb-log-line a { color: var(--st-primary-color); text-decoration: underline; }
.lb-log-line i { flex: none; }
.lb-log-line:not(.lb-open) :is(a, em) { display: none; }
.lb-log-line.lb-open i { display: none; }
.lb-log-line.lb-open { flex-wrap: wrap; row-gap: 0; background: color-mix(in srgb, currentColor 4%, transparent); }
.lb-log-line.lb-open .lb-log-text { flex-basis: 100%; white-space: pre-wrap; overflow-wrap: anywhere; max-height: none; padding-bottom: 0.4rem; }
.lb-log-line[data-level="trace"], .lb-log-line[data-level="debug"] { --lb-level: color-mix(in srgb, currentColor 60%, transparent); }
.lb-log-line[data-level="info"] { --lb-level: color-mix(in srgb, #3b82c4 75%, var(--st-text-color, #222)); }
.lb-log-line[data-level="notice"] { --lb-level: color-mix(in srgb, #2a9d78 75%, var(--st-text-color, #222)); }
.lb-log-line[data-level="warn"] { --lb-level: color-mix(in srgb, #d99a1c 75%, var(--st-text-color, #222)); border-left-color: #d99a1c; }
.lb-log-line[data-level="error"] { --lb-level: color-mix(in srgb, #d94a4a 80%, var(--st-text-color, #222)); border-left-color: #cf4a4a; }
.lb-log-line[data-level="critical"] { --lb-level: color-mix(in srgb, #c2306f 80%, var(--st-text-color, #222)); border-left-color: #c2306f;
  background: color-mix(in srgb, #c2306f 10%, transparent); }
@media (max-width: 640px) {
  .lb-log-line { flex-wrap: wrap; gap: 0 0.6rem; padding-bottom: 0.2rem; }
  .lb-log-line .lb-log-text { flex-basis: 100%; }
}`;

define("tail", Tail, HELD + LINES);
