// Tells the server when nobody sees the page any more, and when somebody does again, so that a hidden tab
// costs nothing. Only a change is told: a tab that is seen needs no word.

export function watch({ parentElement, setStateValue }) {
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
