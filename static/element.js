// The base of live elements with JSON content. components/push/json_element.py is the other end.
//
// Content arrives over the tab's websocket, entry by entry. If the websocket is blocked or the viewer has paused, all
// of it arrives with the page's elements. The content that arrived last is shown.

import { channel } from "./channel.js";

const AWAY = 2000; // ms that an element waits for another place on the page
const MOST = 200; // elements that have left the page and whose state is remembered

const elements = new Map(); // by key
const left = new Map(); // by key: the `state` of elements that have left the page

export class Element {
  constructor(key, kind) {
    this.key = key;
    this.root = made("div", `lb-${kind}`);
    this.settings = {};
    this.content = null; // as shown
    this.pushed = null; // the content that the websocket brought
    this.frame = null;
  }

  // The viewer has clicked something. The page reruns if its script registered for that.
  clicked(what) {
    this.report?.("clicked", what);
  }

  // To be defined by each kind: build() makes the permanent parts, draw() shows this.content. A kind may have `state`,
  // the viewer's changes. They are restored when the viewer comes back to the page.
  build() {}
  draw() {}
  end() {} // the element has left the page

  receive({ live, content, ...settings }) {
    this.settings = settings;
    if (live !== this.number) {
      if (this.number !== undefined) channel().detach(this.number, this);
      this.number = live;
      channel().attach(live, this);
    }
    this.content = content ?? this.pushed ?? this.content;
    this.due();
  }

  apply(message) {
    const { "": whole, ...news } = JSON.parse(new TextDecoder().decode(message));
    this.content = this.pushed = this.merged(whole ? {} : this.pushed, news);
    this.due();
  }

  // `news`: entries by name, null for removed ones.
  merged(known, news) {
    const content = { ...known, ...news };
    for (const name in news) if (news[name] === null) delete content[name];
    return content;
  }

  // Draw with the next frame of the screen.
  due() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = undefined;
      if (this.content) this.draw();
    });
  }

  leave() {
    this.leaving = setTimeout(() => {
      if (this.root.isConnected) return;
      channel().detach(this.number, this);
      this.end();
      elements.delete(this.key);
      left.delete(this.key);
      left.set(this.key, this.state);
      if (left.size > MOST) left.delete(left.keys().next().value);
    }, AWAY);
  }
}

// Draws the elements of a kind: those that waited for this file, and all later ones.
export function define(kind, Made, style) {
  const sheet = made("style", "", style);
  function draw({ parentElement, data, setTriggerValue }) {
    if (!sheet.isConnected) document.head.append(sheet);
    let element = elements.get(data.key);
    if (!element) {
      elements.set(data.key, (element = new Made(data.key, kind)));
      element.build();
      if (left.has(data.key)) element.state = left.get(data.key);
    }
    clearTimeout(element.leaving);
    // Streamlit makes another place for an element when its surroundings change.
    if (element.root.parentNode !== parentElement) parentElement.replaceChildren(element.root);
    element.report = setTriggerValue;
    element.receive(data);
    return () => element.leave();
  }
  serve(kind, draw);
}

// Draws the components of a kind that stay in one place of the page and get their content only from the script: those
// that waited for this file, and all later ones.
export function defineComponent(kind, Made, style) {
  const sheet = globalThis.document && made("style", "", style);
  function draw(component) {
    const { parentElement } = component;
    if (!sheet.isConnected) document.head.append(sheet);
    const shown = (parentElement.lookback ??= new Made());
    if (shown.root.parentNode !== parentElement) parentElement.replaceChildren(shown.root);
    shown.receive(component);
    return () => {};
  }
  serve(kind, draw);
}

function serve(kind, draw) {
  const waiting = Array.isArray(globalThis[`lookback_${kind}`]) ? globalThis[`lookback_${kind}`] : [];
  globalThis[`lookback_${kind}`] = { push: ([component, done]) => done(draw(component)) };
  waiting.forEach(globalThis[`lookback_${kind}`].push);
}

// Names come from NATS: data, not markup.
export function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

// Change a text only if it differs, so that a viewer's selection stays.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
