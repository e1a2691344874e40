// The line above the page. The script draws it, and the tab's websocket keeps it current.

import { channel } from "./channel.js";
import { made } from "./element.js";

const AWAY = 2500; // ms without the websocket after which the line says so
// The viewer's possible actions on the loading of a stretch: label and tooltip of the button.
const ACTS = { stop: ["Stop", "Load no more of this stretch"], rest: ["Load the rest", "Go on loading this stretch"] };
const TWICE = 600; // ms within which a second click belongs to a double click, and is not for the button's new label

class Line {
  constructor(parent) {
    this.parent = parent;
    this.number = null;
    this.frame = null;
    this.pushed = null; // the content that the websocket brought
    this.root = made("div", "lb-status");
    parent.replaceChildren(this.root);
    // These elements are never replaced, so that the button keeps the focus.
    this.room = made("span", "lb-room");
    this.newest = made("span", "lb-newest");
    this.slot = made("span", "lb-act");
    this.facts = made("div", "lb-status-facts");
    this.button = made("button");
    this.button.type = "button";
    this.button.onclick = () => this.act();
    this.slot.append(this.button);
    this.root.append(this.room, this.newest, this.slot, this.facts);
    this.show = () => this.draw();
    channel().watchers.add(this.show);
    this.timer = setInterval(this.show, 1000);
  }

  receive({ live, ...said }, { setTriggerValue }) {
    this.said = said;
    this.again = (value) => setTriggerValue("again", value);
    this.ask = (value) => setTriggerValue("act", value);
    if (live !== this.number) {
      if (this.number !== null) channel().detach(this.number, this);
      this.number = live;
      this.pushed = null;
      channel().attach(live, this);
    }
    this.draw();
  }

  apply(message) {
    const { again, "": whole, ...news } = JSON.parse(new TextDecoder().decode(message));
    this.pushed = whole ? news : { ...this.pushed, ...news };
    if (again) this.again(again);
    this.draw();
  }

  // The websocket delivers it at once, also while the page's script runs.
  act() {
    if (performance.now() - this.acted < TWICE) return;
    this.acted = performance.now();
    if (channel().ready) channel().say(this.number, { act: this.may });
    else this.ask(this.may);
  }

  // Draw the newest facts: those from the websocket or, while paused or without it, those from the script.
  draw() {
    const { ready, pace, since, wasBlocked, ticket } = channel();
    let said = ready && pace !== null && this.pushed ? this.pushed : this.said;
    const away = !ready && ticket && !wasBlocked && pace !== null && performance.now() - since > AWAY;
    if (away && said.mood !== "lost") said = { ...said, mood: "busy", word: "Reconnecting" };
    const state = JSON.stringify(said);
    if (state === this.state) return; // keeps the viewer's selection
    this.state = state;
    this.root.className = `lb-status lb-${said.mood}`;
    const { newest, facts } = this;
    this.room.replaceChildren(made("span", "lb-word", said.word));
    newest.hidden = !said.newest;
    newest.replaceChildren(...pieces(said.newest ?? []), "\u00a0");
    newest.title = newest.textContent.trim();
    if ((said.bar ?? null) !== null) {
      const bar = made("i");
      bar.style.width = `${100 * said.bar}%`;
      newest.append(bar);
    }
    // On a page of the past the slot stays, so that nothing moves when the button appears or disappears.
    this.may = said.act;
    this.slot.hidden = typeof said.act !== "string";
    [this.button.textContent, this.button.title] = ACTS[said.act] ?? ["", ""];
    this.button.hidden = !this.button.textContent;
    facts.replaceChildren();
    for (const name of Object.keys(said).filter((name) => name.startsWith("fact")).sort(byNumber)) {
      if (!said[name]) continue;
      const fact = made("span");
      fact.append(...pieces(said[name]));
      fact.title = fact.textContent;
      facts.append(fact);
    }
  }

  end() {
    clearInterval(this.timer);
    channel().watchers.delete(this.show);
    channel().detach(this.number, this);
    delete this.parent.lookbackLine;
  }
}

// "fact", "fact0", …, "fact10"
const byNumber = (one, other) => Number(one.slice(4) || -1) - Number(other.slice(4) || -1);

// Texts; an entry that is a list is bold. Names come from NATS: data, not markup.
const pieces = (list) => list.map((piece) => (Array.isArray(piece) ? made("b", piece[1] ?? "", piece[0]) : piece));

function draw(component) {
  const { parentElement, data } = component;
  (parentElement.lookbackLine ??= new Line(parentElement)).receive(data, component);
  return () => parentElement.isConnected && parentElement.lookbackLine ? undefined : parentElement.lookbackLine?.end();
}

const waiting = Array.isArray(self.lookback_status) ? self.lookback_status : [];
self.lookback_status = { push: ([component, done]) => done(draw(component)) };
waiting.forEach(self.lookback_status.push);
