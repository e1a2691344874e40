// Tells the server when the page becomes hidden or visible, so that a hidden tab costs nothing. Only changes are
// sent. Opens the tab's websocket with the ticket that the script made.

import { channel } from "./channel.js";
import { gaveUp, watchConnection } from "./streamlit_page.js";
import { setPageZone } from "./zone.js";

// After any message it cannot read, Streamlit's script gives up its connection for good, and only a reload helps.
// The URL has the viewer's choices, so reload the page: at once, or ten seconds after the last reload.
const AGAIN = 10_000;

function recover() {
  globalThis.lookbackRecovery ??= watchConnection(() => {
    if (!gaveUp() || globalThis.lookbackReload) return;
    const wait = Math.max(0, Number(sessionStorage.getItem("lookback-reload") ?? 0) + AGAIN - Date.now());
    globalThis.lookbackReload = setTimeout(() => {
      sessionStorage.setItem("lookback-reload", String(Date.now()));
      location.reload();
    }, Math.min(wait, AGAIN));
  });
}

// static/reload.js reads it.
function noteLeaving() {
  if (globalThis.lookbackLeaving !== undefined) return;
  globalThis.lookbackLeaving = 0;
  globalThis.addEventListener?.("beforeunload", () => (globalThis.lookbackLeaving = Date.now()));
}

// Streamlit's script makes each URL that the server sends an entry of the browser's history, and gives a new page a URL
// without parameters. But a choice for all pages stays on the next page, and Back must not undo it. So if only such a
// choice differs, the entry is replaced (components/choices/address.py). It is also replaced if the viewer has done
// nothing since they opened the page or went back to it: then the server only completes its URL, and a new entry would
// bring Back to this page again and again. Streamlit's script replaces it too, but not if a refresh came in between.
const LASTING = ["refresh", "last", "from", "to", "play", "at", "tz"];

function pageOnly(url) {
  const { pathname, searchParams } = new URL(url);
  for (const name of LASTING) searchParams.delete(name);
  return `${pathname}?${searchParams}`;
}

function keepLasting() {
  if (globalThis.lookbackHistory) return;
  globalThis.lookbackHistory = true;
  let acted = false;
  for (const name of ["pointerdown", "keydown", "click", "change"]) addEventListener(name, () => (acted = true), true);
  addEventListener("popstate", () => (acted = false));
  const push = history.pushState;
  history.pushState = function (state, title, url) {
    const [now, next] = [new URL(location.href), new URL(url, location.href)];
    const entered = now.pathname !== next.pathname;
    for (const name of LASTING) {
      const kept = entered && !next.searchParams.has(name) && now.searchParams.get(name);
      if (kept) next.searchParams.set(name, kept);
    }
    const add = entered || (acted && pageOnly(next) !== pageOnly(now)) ? push : this.replaceState;
    acted &&= !entered;
    return add.call(this, state, title, next.href);
  };
}

export function watch({ parentElement, setStateValue, setTriggerValue, data }) {
  recover();
  noteLeaving();
  keepLasting();
  if (data) setPageZone(data.zone ?? "");
  const ended = () => setTriggerValue("ended", Date.now());
  if (data?.ticket) channel().use(data.ticket, (blocked) => setStateValue("blocked", blocked), ended);
  const tab = (parentElement.lookbackTab ??= { hidden: false });
  tab.report = setStateValue;
  if (!tab.look) {
    tab.look = () => {
      if (document.hidden === tab.hidden) return;
      tab.hidden = document.hidden;
      tab.report("hidden", tab.hidden);
    };
    document.addEventListener("visibilitychange", tab.look);
    tab.look();
  }
  return () => document.removeEventListener("visibilitychange", tab.look);
}
