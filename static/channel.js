// The tab's websocket, which brings updates to live elements. All elements and pages of the tab share it.
//
// Frames are numbered. A frame that does not follow the last one is not applied: the browser reports to the server the last
// frame that it applied, and the server continues from there. components/push/channel.py describes the messages.

import { apart } from "./apart.js";
import { isConnected } from "./streamlit_page.js";

const FIRST_WAIT = 400; // approximate ms before the first retry; doubled for each further one
const LONGEST_WAIT = 10_000;
const SILENT = 12_000; // ms without a frame after which the connection is taken for dead; the server sends one each 5 s
const SEEN_AGAIN = 4_000; // the same, when a hidden tab is seen again
const ASK_AGAIN = 1_500; // ms after which an unanswered report of a missing frame is repeated
const BLOCKED_AFTER = 6_000; // ms without the websocket, while Streamlit's own works, after which it counts as blocked
const ANSWERED = 20_000; // ms after which a question fails without an answer
const REPORT_EVERY = 16; // frames between two reports of what was drawn
const [NO_TICKET, REPLACED] = [4401, 4409];

export class Channel {
  constructor(root) {
    this.url = root;
    this.elements = new Map(); // by number: { apply(bytes): false if not usable, optional resumed(), frame }
    this.frame = 0;
    this.reportedFrame = 0; // the last frame that was reported to the server as drawn
    this.pace = 0; // seconds between two frames, null while paused
    this.needs = 0; // ms that drawing needs between two frames
    this.receivedAt = -Infinity;
    this.attempts = 0;
    this.ready = false;
    this.questions = new Map(); // by number: the function that takes the answer
    this.questioned = 0;
    this.watchers = new Set(); // called when `ready` changes
    this.since = performance.now(); // when `ready` changed
    document.addEventListener("visibilitychange", () => this.look());
    addEventListener("online", () => this.retry(0));
    setInterval(() => this.check(), 1000);
  }

  // The script made this ticket for the tab. `report` is called when it turns out whether the websocket is blocked.
  // `ended` is called at each attempt at which the server rejects the ticket; the script then makes another ticket.
  use(ticket, report, ended) {
    this.report = report;
    this.ended = ended;
    if (ticket === this.ticket) return;
    this.ticket = ticket;
    for (const element of this.elements.values()) element.frame = null;
    this.attempts = 0;
    this.connect();
  }

  attach(number, element) {
    element.frame = null;
    this.elements.set(number, element);
    this.send({ show: number, at: null });
  }

  detach(number, element) {
    if (this.elements.get(number) !== element) return;
    this.elements.delete(number);
    this.send({ hide: number });
  }

  // Send the viewer's action on an element to the server.
  say(number, said) {
    this.send({ to: number, said });
  }

  // The server's answer to a question to an element; { error } without an answer.
  question(number, said) {
    const asked = (this.questioned += 1);
    return new Promise((resolve) => {
      const answer = (found) => this.questions.delete(asked) && resolve(found);
      this.questions.set(asked, answer);
      if (!this.ready) return answer({ error: "There is no connection to the app. Try again." });
      setTimeout(answer, ANSWERED, { error: "The app has not answered. Try again." });
      this.send({ ask: asked, of: number, said });
    });
  }

  // The newest frame is on the screen; `needs`: ms that drawing needs between two frames.
  drawn(needs = this.needs) {
    const changed = Math.abs(needs - this.needs) > Math.max(50, this.needs / 2);
    if (this.frame - this.reportedFrame < REPORT_EVERY && !changed) return;
    this.needs = needs;
    this.reportedFrame = this.frame;
    this.send({ got: this.frame, pace: Math.round(needs) });
  }

  send(message) {
    // Also before the answer to the first message, which named only the elements attached by then.
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  connect() {
    clearTimeout(this.waiting);
    this.waiting = undefined;
    this.leave();
    if (!this.ticket) return;
    const socket = (this.socket = new WebSocket(this.url));
    socket.binaryType = "arraybuffer";
    this.started = performance.now();
    socket.onopen = () => {
      const shown = Object.fromEntries([...this.elements].map(([number, { frame }]) => [number, frame]));
      socket.send(JSON.stringify({ ticket: this.ticket, shown, hidden: document.hidden }));
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.socket) this.receive(data);
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      this.leave();
      if (code === REPLACED) return; // another socket has this ticket; a new ticket will come
      if (code === NO_TICKET) {
        this.attempts = Math.max(this.attempts, 1);
        this.ended?.();
      }
      // Spread out, so that all tabs do not come back at once after a restart.
      const wait = Math.min(FIRST_WAIT * 2 ** this.attempts++, LONGEST_WAIT) * (0.5 + Math.random());
      this.retry(wait);
    };
  }

  retry(wait) {
    if (this.ready || !this.ticket) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.connect(), wait);
  }

  leave() {
    const { socket } = this;
    this.socket = undefined;
    socket?.close();
    this.become(false);
  }

  become(ready) {
    if (ready === this.ready) return;
    this.ready = ready;
    this.since = performance.now();
    if (!ready) for (const answer of this.questions.values()) answer({ error: "The connection to the app was lost. Try again." });
    for (const watcher of this.watchers) watcher(ready);
  }

  receive(data) {
    this.receivedAt = performance.now();
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if ("answer" in message) this.questions.get(message.answer)?.(message.said);
      if ("pace" in message) this.pace = message.pace;
      if ("next" in message) {
        this.frame = message.next - 1;
        this.reportedFrame = this.frame;
        this.asked = undefined;
        this.attempts = 0;
        this.become(true);
        for (const element of this.elements.values()) apart(() => element.resumed?.());
        if (this.wasBlocked) this.report((this.wasBlocked = false));
      }
      return;
    }
    const bytes = new Uint8Array(data);
    if (bytes[0] === (this.frame & 255)) return; // the last frame again
    if (this.asked !== undefined || bytes[0] !== ((this.frame + 1) & 255)) return this.ask();
    this.frame += 1;
    let at = 1;
    const int = () => {
      for (let number = 0, unit = 1; ; unit *= 128) {
        const byte = bytes[at++];
        number += (byte & 127) * unit;
        if (byte < 128) return number;
      }
    };
    while (at < bytes.length) {
      const key = int();
      const number = Math.floor(key / 2);
      const length = key % 2 ? int() : bytes.length - at;
      const message = bytes.subarray(at, (at += length));
      const element = this.elements.get(number);
      if (!element) continue; // it has left the page
      if (apart(() => element.apply(message) !== false)) element.frame = this.frame;
    }
    if (!this.busy?.()) this.drawn();
  }

  // A frame is missing.
  ask() {
    const now = performance.now();
    if (now - (this.asked ?? -Infinity) < ASK_AGAIN) return;
    this.asked = now;
    this.send({ lost: this.frame });
  }

  look() {
    if (!document.hidden && !this.ready) return this.retry(0);
    this.send({ hidden: document.hidden });
    if (!document.hidden) this.receivedAt = Math.min(this.receivedAt, performance.now() - SILENT + SEEN_AGAIN);
  }

  check() {
    const now = performance.now();
    if (this.asked !== undefined) this.ask();
    if (this.ready && !document.hidden && now - this.receivedAt > SILENT) this.connect();
    if (this.socket && !this.ready && now - this.started > SILENT) this.connect();
    if (this.ready || this.wasBlocked || document.hidden || !this.ticket) return;
    if (!isConnected()) this.since = now; // Streamlit's websocket fails too, so no proxy blocks ours
    else if (now - this.since > BLOCKED_AFTER) this.report?.((this.wasBlocked = true));
  }
}

// Streamlit's own script gives the app's root, also below a base path or behind a proxy.
function url() {
  const found = new URL("push", import.meta.url);
  found.protocol = found.protocol.replace("http", "ws");
  return found.href;
}

let made;
export function channel() {
  return (made ??= new Channel(url()));
}
