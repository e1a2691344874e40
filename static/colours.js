// Colours of names: by the meaning of a word, or the next of a list.

const COLOURS = [
  "#4c7bd9", "#7a5cc0", "#0f8aa3", "#a07b45", "#cc68a8", "#5c9aa8", "#8a6fd1", "#7d8b93", "#b0763f", "#3f7f93",
];
// Common words for states and levels. Their meaning to an operator decides the colour.
const WORDS = {
  "#3f9a5a": "run running ok up on open ready active online healthy started working available passing success true",
  "#9aa4a8": "idle off stopped standby closed inactive paused none unknown offline disabled false debug trace",
  "#d99a1c": "wait waiting warn warning degraded pending starting stopping maintenance setup blocked slow retry",
  "#cf4a4a": "fault error failed failure down alarm critical broken crashed unhealthy fatal emergency err crit emerg alert",
};
const MEANT = new Map(Object.entries(WORDS).flatMap(([colour, words]) => words.split(" ").map((word) => [word, colour])));

const DARKER = 0.68; // the brightness of each further name with the same meaning, relative to the one before

// The colour of each name: the one that the page gives, that of the word's meaning, or the next of COLOURS.
export function coloursOf(names, given = {}) {
  let next = 0;
  const used = new Map();
  return names.map((name) => {
    if (Object.hasOwn(given, name)) return given[name];
    const meant = MEANT.get(name.toLowerCase());
    if (!meant) return COLOURS[next++ % COLOURS.length];
    const times = used.get(meant) ?? 0;
    used.set(meant, times + 1);
    return darker(meant, DARKER ** Math.min(times, 3));
  });
}

function darker(colour, share) {
  const parts = [1, 3, 5].map((at) => Math.round(parseInt(colour.slice(at, at + 2), 16) * share));
  return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
