// Tells the server when the page becomes hidden or visible, so that a hidden tab costs nothing. Only changes are
// sent. Opens the tab's websocket with the ticket that the script made.

import { channel } from "./channel.js";

// After any message it cannot read, Streamlit's script gives up its connection for good, and only a reload helps.
// The URL has the viewer's choices, so reload the page: at once, or ten seconds after the last reload.
const AGAIN = 10_000;

function recover() {
  const root = document.querySelector('[data-testid="stApp"]');
  if (!root || globalThis.lookbackRecovery) return;
  const look = () => {
    if (root.dataset.testConnectionState !== "DISCONNECTED_FOREVER" || globalThis.lookbackReload) return;
    const wait = Math.max(0, Number(sessionStorage.getItem("lookback-reload") ?? 0) + AGAIN - Date.now());
    globalThis.lookbackReload = setTimeout(() => {
      sessionStorage.setItem("lookback-reload", String(Date.now()));
      location.reload();
    }, Math.min(wait, AGAIN));
  };
  globalThis.lookbackRecovery = new MutationObserver(look);
  globalThis.lookbackRecovery.observe(root, { attributes: true, attributeFilter: ["data-test-connection-state"] });
  look();
}

// static/reload.js reads it.
function noteLeaving() {
  if (globalThis.lookbackLeaving !== undefined) return;
  globalThis.lookbackLeaving = 0;
  globalThis.addEventListener?.("beforeunload", () => (globalThis.lookbackLeaving = Date.now()));
}

export function watch({ parentElement, setStateValue, data }) {
  recover();
  noteLeaving();
  if (data?.ticket) channel().use(data.ticket, (blocked) => setStateValue("blocked", blocked));
  const tab = (parentElement.lookbackTab ??= { hidden: false });
  tab.tell = setStateValue;
  if (!tab.look) {
    tab.look = () => {
      if (document.hidden === tab.hidden) return;
      tab.hidden = document.hidden;
      tab.tell("hidden", tab.hidden);
    };
    document.addEventListener("visibilitychange", tab.look);
    tab.look();
  }
  return () => document.removeEventListener("visibilitychange", tab.look);
}
