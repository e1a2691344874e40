// Tells the server when nobody sees the page any more, and when somebody does again, so that a hidden tab
// costs nothing. Only a change is told: a tab that is seen needs no word.

// Streamlit's script gives a connection up for good after any message that it cannot read, and then only a new
// visit helps. The address has what was chosen, so the tab begins anew by itself: at once, and where that was less
// than ten seconds ago, ten seconds later.
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

export function watch({ parentElement, setStateValue }) {
  recover();
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
