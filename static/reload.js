// Loads the page again. If the tab is on its way to another page, such as the provider's sign-out, a reload would
// cancel that. So it waits up to UNDER_WAY after the tab began to leave; if the tab is still there, it reloads.
const UNDER_WAY = 5_000;

export default ({ data }) => {
  const reload = () => {
    const wait = (globalThis.lookbackLeaving ?? 0) + UNDER_WAY - Date.now();
    if (wait > 0) setTimeout(reload, wait);
    else location.replace(location.pathname + data);
  };
  reload();
};
