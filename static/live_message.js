// One message in full: tree, text, hex, headers, and its differences from the previous message of its subject.
// components/explore/message.py makes it. Everything shown is data, never markup.

import { defineComponent, made, say } from "./element.js";

const STYLE = `
.lb-message { border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; font-size: 0.875rem; margin-top: 0.4rem; overflow: hidden; }
.lb-message header { display: flex; flex-wrap: wrap; align-items: center; gap: 0.3rem 0.9rem; padding: 0.5rem 0.8rem;
  background: var(--st-secondary-background-color, #f0f1ef); }
.lb-message header b { overflow-wrap: anywhere; }
.lb-message header span { opacity: 0.75; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.lb-message nav { display: flex; flex-wrap: wrap; gap: 0.3rem 0.4rem; align-items: center; padding: 0.45rem 0.8rem 0; }
.lb-message :is(button, nav a) { font: inherit; color: inherit; cursor: pointer; background: transparent; padding: 0.15rem 0.6rem; min-height: 1.9rem;
  border: 1px solid var(--st-border-color, #8884); border-radius: 0.4rem; text-decoration: none; box-sizing: border-box; display: inline-flex; align-items: center; }
.lb-message :is(button, nav a):hover:not(:disabled) { border-color: currentColor; }
.lb-message button:disabled { opacity: 0.4; cursor: default; }
.lb-message button[aria-selected="true"] { border-color: var(--st-primary-color); color: var(--st-primary-color); font-weight: 600; }
.lb-message :is(button, a, [tabindex]):focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: -1px; }
.lb-message nav i { flex: 1; }
.lb-message .lb-body { padding: 0.5rem 0.8rem 0.7rem; }
.lb-message .lb-part { max-height: 420px; overflow: auto; overscroll-behavior: contain; }
.lb-message pre { margin: 0; padding: 0; background: none; color: inherit; font: 0.8rem/1.5 var(--st-code-font, ui-monospace, monospace);
  white-space: pre-wrap; overflow-wrap: anywhere; content-visibility: auto; }
.lb-message .lb-hex pre { white-space: pre; overflow-wrap: normal; }
.lb-message .lb-cut { display: flex; flex-wrap: wrap; gap: 0.6rem; align-items: center; padding-top: 0.5rem; opacity: 0.85; }
.lb-message .lb-cut:empty { display: none; }
.lb-tree { font: 0.8rem/1.6 var(--st-code-font, ui-monospace, monospace); }
.lb-tree details { padding-left: 0; } .lb-tree .lb-in { padding-left: 1.2rem; }
.lb-tree summary { cursor: pointer; font: inherit; } .lb-tree p { margin: 0; padding-left: 1rem; font: inherit; overflow-wrap: anywhere; white-space: pre-wrap; }
.lb-tree .lb-name { opacity: 0.75; }
.lb-tree em { font-style: normal; opacity: 0.6; }
.lb-message table { border-collapse: collapse; width: 100%; margin: 0; font-size: 0.85rem; }
.lb-message :is(th, td) { text-align: left; vertical-align: top; padding: 0.25rem 0.6rem 0.25rem 0; overflow-wrap: anywhere; border: 0;
  border-bottom: 1px solid color-mix(in srgb, currentColor 9%, transparent); }
.lb-message th { font-weight: 400; opacity: 0.7; } .lb-message td { font-family: var(--st-code-font, ui-monospace, monospace); white-space: pre-wrap; min-width: 5rem; }
.lb-message .lb-none { opacity: 0.5; } .lb-message .lb-none::after { content: "none"; }
@media (pointer: coarse) { .lb-message :is(button, nav a) { min-height: 40px; padding: 0.3rem 0.9rem; } }`;

const OPEN_AT_FIRST = 2; // levels of a tree
function button(text, onclick) {
  const element = made("button", "", text);
  element.type = "button";
  element.onclick = onclick;
  return element;
}

// Without access to the clipboard, as over plain HTTP, the old way still works.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = made("textarea");
    area.value = text;
    area.style.cssText = "position:fixed;opacity:0";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// Each node is [level, name, kind, text] and precedes its children. An object's children are made when it is opened.
function treeOf(nodes) {
  const root = made("div", "lb-tree lb-part");
  root.tabIndex = 0;
  fill(root, nodes, 0, nodes.length);
  return root;
}

function fill(place, nodes, from, to) {
  for (let at = from; at < to; ) {
    const [level, name, kind, text] = nodes[at];
    let end = at + 1;
    while (end < to && nodes[end][0] > level) end += 1;
    if (kind === "object" || kind === "array") place.append(group(nodes, at, end));
    else {
      const line = made("p");
      if (name) line.append(made("span", "lb-name", `${name}: `));
      line.append(kind === "text" ? `"${text}"` : kind === "more" ? made("em", "", text) : text);
      if (kind === "bytes" || kind === "time") line.append(" ", made("em", "", kind));
      place.append(line);
    }
    at = end;
  }
}

function group(nodes, at, end) {
  const [level, name, kind, text] = nodes[at];
  const details = made("details");
  const summary = made("summary");
  if (name) summary.append(made("span", "lb-name", `${name}: `));
  summary.append(made("em", "", kind === "array" ? `[${text}]` : `{${text}}`));
  const inner = made("div", "lb-in");
  details.append(summary, inner);
  const open = () => {
    if (!inner.childNodes.length) fill(inner, nodes, at + 1, end);
  };
  details.ontoggle = () => details.open && open();
  if (level === 0 || (level < OPEN_AT_FIRST && end - at < 300)) {
    open();
    details.open = true;
  }
  return details;
}

function table(columns, rows) {
  const [element, head, body] = [made("table"), made("thead"), made("tbody")];
  const names = made("tr");
  names.append(...columns.map((name) => made("th", "", name)));
  head.append(names);
  body.append(...rows.map((cells) => {
    const row = made("tr");
    row.append(...cells.map((text) => made("td", text === null ? "lb-none" : "", text ?? "")));
    return row;
  }));
  element.append(head, body);
  const part = made("div", "lb-part");
  part.tabIndex = 0;
  part.append(element);
  return part;
}

function written(text, className = "") {
  const part = made("div", `lb-part ${className}`);
  part.tabIndex = 0;
  part.append(made("pre", "", text));
  return part;
}

class Message {
  constructor() {
    this.root = made("section", "lb-message");
    this.root.setAttribute("aria-label", "Message");
    this.head = made("header");
    this.tabs = made("nav");
    this.body = made("div", "lb-body");
    this.root.append(this.head, this.tabs, this.body);
    this.root.addEventListener("keydown", (event) => event.stopPropagation()); // single letters are shortcuts of the page
    this.wanted = "Tree";
  }

  receive({ data, setTriggerValue }) {
    this.report = (what) => setTriggerValue("clicked", what);
    const state = JSON.stringify({ ...data, link: "" });
    if (this.link && this.link.getAttribute("href") !== data.link) this.link.href = data.link;
    if (state === this.state) return; // keeps the viewer's selection and open branches
    this.state = state;
    this.data = data;
    this.head.replaceChildren(
      made("b", "", data.subject),
      ...[`Sequence ${data.seq}`, data.stored, data.size, data.takenFor].map((text) => made("span", "", text)),
    );
    this.drawTabs();
  }

  parts() {
    const { tree, text, hex, headers, differences } = this.data;
    return {
      ...(tree.length && { Tree: () => treeOf(tree) }),
      Text: () => [written(text), this.cut("textCut")],
      Hex: () => [written(hex, "lb-hex"), this.cut("hexCut")],
      [`Headers (${headers.length})`]: () =>
        headers.length ? table(["Name", "Value"], headers) : made("div", "lb-note", "It has no headers."),
      Differences: () => [
        ...(differences.length ? [table(["Field", `Before (${this.data.before})`, "Here"], differences)] : []),
        made("div", "lb-note", this.data.said),
      ],
    };
  }

  drawTabs() {
    const { before, after, link } = this.data;
    const parts = this.parts();
    const names = Object.keys(parts);
    const isHeaders = (name) => name.startsWith("Headers");
    const shown = names.find((name) => name === this.wanted || (isHeaders(name) && isHeaders(this.wanted))) ?? names[0];
    const tabs = names.map((name) => {
      const tab = button(name, () => {
        this.wanted = name;
        this.drawTabs();
      });
      tab.setAttribute("aria-selected", String(name === shown));
      tab.setAttribute("role", "tab");
      return tab;
    });
    const list = made("div");
    list.setAttribute("role", "tablist");
    list.style.display = "contents";
    list.append(...tabs);
    const [back, forth] = [button("‹ Before", () => this.report(before)), button("After ›", () => this.report(after))];
    back.disabled = before === null;
    forth.disabled = after === null;
    back.title = before === null ? "None of this subject" : `Sequence ${before}, of the same subject`;
    forth.title = after === null ? "None of this subject yet" : `Sequence ${after}, of the same subject`;
    const copied = button("Copy", async () => {
      const asText = shown === "Tree" || shown === "Text";
      await copy(asText ? this.data.text : this.body.querySelector(".lb-part, .lb-note").innerText);
      say(copied, "Copied");
      setTimeout(() => say(copied, "Copy"), 1500);
    });
    this.link = made("a", "", "Download");
    this.link.href = link;
    this.link.setAttribute("download", "");
    this.tabs.replaceChildren(list, made("i"), back, forth, copied, this.link, button("Close", () => this.report("close")));
    this.body.replaceChildren(...[parts[shown]()].flat());
  }

  cut(name) {
    const line = made("div", "lb-cut");
    const cut = this.data[name];
    if (!cut) return line;
    line.append(made("span", "", cut.said));
    line.append(cut.more ? button("Show more", () => this.report("more")) : made("span", "", "Download has all of it."));
    return line;
  }
}

defineComponent("message", Message, STYLE);
