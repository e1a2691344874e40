// The messages behind a point, in a panel above the page. The server reads them from the stream.
// components/data/behind.py describes its reply.

import { channel } from "./channel.js";
import { made } from "./element.js";
import { pageZone } from "./zone.js";

export const [NEAR, NEAR_FINGER] = [24, 44]; // px around a point within which a click counts as a click on it
export const SECOND_CLICK = 320; // ms in which a second click makes it a double click, which resets the zoom
const INHERITED = ["text-color", "background-color", "secondary-background-color", "border-color", "primary-color", "code-font"];
const STYLE = `
.lb-behind { position: fixed; inset: auto 1.2rem 1.2rem auto; margin: 0; width: min(34rem, calc(100vw - 2.4rem)); max-height: min(70vh, 44rem);
  box-sizing: border-box; padding: 0.8rem 1rem 1rem; overflow: auto; overscroll-behavior: contain; font-size: 0.875rem; line-height: 1.45;
  color: var(--st-text-color, #222); background: var(--st-background-color, #fff); border: 1px solid var(--st-border-color, #8886);
  border-radius: 0.5rem; box-shadow: 0 6px 24px #0003; }
.lb-behind:focus { outline: none; }
.lb-behind :is(p, dt, dd) { font-size: 0.875rem; }
.lb-behind header { display: flex; align-items: baseline; gap: 0.8rem; }
.lb-behind h2 { all: unset; flex: 1; font-weight: 600; font-size: 0.95rem; overflow-wrap: anywhere; }
.lb-behind header button { all: unset; cursor: pointer; padding: 0 0.5rem; font-size: 1.2rem; line-height: 1; }
.lb-behind header button:focus-visible { outline: 2px solid var(--st-primary-color); }
.lb-behind p { margin: 0.3rem 0 0; opacity: 0.8; overflow-wrap: anywhere; }
.lb-behind section { margin-top: 0.8rem; padding-top: 0.7rem; border-top: 1px solid var(--st-border-color, #8884); }
.lb-behind dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 0.9rem; margin: 0; font-variant-numeric: tabular-nums; }
.lb-behind dt { opacity: 0.7; }
.lb-behind dd { margin: 0; overflow-wrap: anywhere; }
.lb-behind pre { margin: 0.5rem 0 0; padding: 0.6rem 0.8rem; max-height: 16rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  font-family: var(--st-code-font, monospace); font-size: 0.8rem; border-radius: 0.4rem; background: var(--st-secondary-background-color, #f0f1ef); }
.lb-behind a { color: var(--st-primary-color); text-decoration: underline; }
@media (max-width: 640px) {
  .lb-behind { inset: auto 0 0 0; width: 100%; max-height: 60vh; border-radius: 0.7rem 0.7rem 0 0; }
  .lb-behind header button { padding: 0.5rem 0.8rem; }
}`;

let panel;
let sheet;
let asked; // the newest question; answers to earlier questions are not shown

// Clicks on the lines and marks of a chart.
export function watchClicks(chart) {
  let waiting;
  let doubled = -Infinity;
  chart.plot.on("plotly_click", ({ points, event }) => {
    clearTimeout(waiting);
    // Plotly reports the second of two clicks after the double click.
    const single = !event.button && performance.now() - doubled > SECOND_CLICK;
    const column = !single ? null : pointed(chart, points, event.changedTouches?.[0] ?? event);
    if (column) waiting = setTimeout(() => showBehind(chart.plot, chart.plugged, column), SECOND_CLICK);
  });
  chart.plot.on("plotly_doubleclick", () => {
    clearTimeout(waiting);
    doubled = performance.now();
  });
}

// The nearest of the points that Plotly shows at the pointer, as series and times for the server.
function pointed(chart, points, { clientX, clientY }) {
  const { left, top } = chart.plot.getBoundingClientRect();
  let [nearest, least] = [null, matchMedia("(pointer: coarse)").matches ? NEAR_FINGER : NEAR];
  for (const { data, x, y, xaxis, yaxis, pointNumber } of points) {
    const away = Math.hypot(xaxis.d2p(x) + xaxis._offset + left - clientX, yaxis.d2p(y) + yaxis._offset + top - clientY);
    if (away < least) [nearest, least] = [{ data, x, pointNumber }, away];
  }
  if (!nearest) return null;
  const { data, x, pointNumber } = nearest;
  if (data.uid !== "marks") return chart.pixelColumn(Number(data.uid), chart.utc(x));
  const [series, time] = data.meta[pointNumber];
  return { series, from: time, to: time + 1 };
}

// Request the messages from the element `number` of the page, and show its reply.
export async function showBehind(beside, number, said) {
  open(beside);
  const question = (asked = {});
  const answer = number === null
    ? { error: "The messages come over the tab's own websocket, which does not reach the app." }
    : await channel().question(number, said);
  if (question === asked && panel.matches(":popover-open")) fill(answer, said.series);
}

function open(beside) {
  if (!panel) {
    sheet = made("style", "", STYLE);
    panel = made("div", "lb-behind");
    panel.popover = "auto"; // closes with Esc, and with a click elsewhere
    panel.tabIndex = -1;
    panel.setAttribute("role", "dialog");
    panel.setAttribute("aria-label", "Messages behind this point");
    panel.addEventListener("keydown", (event) => event.stopPropagation()); // single letters are shortcuts of the page
    document.head.append(sheet);
  }
  // The page's colours are those of its elements.
  const style = getComputedStyle(beside);
  for (const name of INHERITED) panel.style.setProperty(`--st-${name}`, style.getPropertyValue(`--st-${name}`));
  panel.style.fontFamily = style.fontFamily;
  document.body.append(panel);
  panel.replaceChildren(heading("Messages behind this point"), made("p", "", "Reading …"));
  panel.showPopover();
  panel.focus({ preventScroll: true });
}

function heading(text) {
  const [head, close] = [made("header"), made("button", "", "×")];
  close.type = "button";
  close.setAttribute("aria-label", "Close");
  close.onclick = () => panel.hidePopover();
  head.append(made("h2", "", text), close);
  return head;
}

// Everything shown here is data from NATS: text, never markup.
function fill({ error, stream, count, messages = [], silent }, series) {
  const what = count === 1 ? "The message behind this point" : `${(count ?? 0).toLocaleString("en")} messages behind this point`;
  const parts = [heading(error || !count ? "Messages behind this point" : silent ? "The last message before the silence" : what)];
  if (series) parts.push(made("p", "", series.replace("\x1f", ", ")));
  if (error) parts.push(made("p", "lb-why", error));
  else if (!count) parts.push(made("p", "lb-why", "The rows of this point have left the page's look-back."));
  if (count > messages.length) {
    const more = (count - messages.length).toLocaleString("en");
    parts.push(made("p", "", `${messages.length} of them: the least, the greatest and the newest. There are ${more} more in this pixel column; zoom in to see them one by one.`));
  }
  panel.replaceChildren(...parts, ...messages.map((message) => section(stream, message)));
}

function section(stream, { subject, seq, stored, gone, why, size, kind, payload, cut, headers, more_headers: further }) {
  const [root, list] = [made("section"), made("dl")];
  const say = (name, text) => list.append(made("dt", "", name), made("dd", "", text));
  say("Subject", subject);
  say("Stored", pageZone().text(stored));
  say("Sequence", `${seq} of ${stream}`);
  if (size !== undefined) say("Payload", `${size}${kind === "hex" ? ", no text: in hex" : ""}${cut ? ", its beginning" : ""}`);
  for (const [name, text] of headers ?? []) say(name, text);
  if (further) say("", `${further} more headers`);
  root.append(list);
  if (gone || why) root.append(made("p", "lb-why", gone ?? why));
  if (payload) root.append(made("pre", "", cut ? `${payload}…` : payload));
  if (gone) return root;
  const [line, link] = [made("p"), made("a", "", "Open in Explore")];
  const address = new URL("../explore", import.meta.url);
  address.search = new URLSearchParams({ stream, show: "Messages", seq });
  link.href = address;
  link.target = "_self";
  line.append(link);
  root.append(line);
  return root;
}
