// Loads the page again. If the tab is on its way to another page, such as the provider's sign-out, a reload would
// cancel that. So it waits a while: either the tab leaves, or nothing came of it.
const UNDER_WAY = 5_000;

export default ({ data }) => {
  const reload = () => {
    const wait = (globalThis.lookbackLeaving ?? 0) + UNDER_WAY - Date.now();
    if (wait > 0) setTimeout(reload, wait);
    else location.replace(location.pathname + data);
  };
  reload();
};
