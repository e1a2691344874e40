// Access to the page that Streamlit's front end makes. Our scripts use only the names in this file; the style sheets
// frame.css and framed.css use others. tests/components/test_front_end_names.py compares all of them with
// the installed Streamlit.

const ROOT = '[data-testid="stApp"]';
const CONNECTION = "data-test-connection-state";

// The element around the whole page; null if there is none.
export const root = (page = document) => page.querySelector(ROOT);

// The state of Streamlit's own websocket, such as "CONNECTED"; undefined if there is no page.
export const connection = () => root()?.getAttribute(CONNECTION) ?? undefined;

// Streamlit's front end makes no further attempt to connect.
export const gaveUp = () => connection() === "DISCONNECTED_FOREVER";
export const isConnected = () => connection() === "CONNECTED";

// Calls `then` now and whenever the state may have changed. Returns the observer; undefined if there is no page.
export function watchConnection(then) {
  const watched = root();
  if (!watched) return undefined;
  const observer = new MutationObserver(then);
  observer.observe(watched, { attributes: true, attributeFilter: [CONNECTION] });
  then();
  return observer;
}
