// How lines look: the colour and the dashes of each, in charts and their legends.

export const COLOURS = [
  "#0f8aa3", "#e0782f", "#7a5cc0", "#4b9e3f", "#cf4a5f", "#a07b45", "#4c7bd9", "#c99a12", "#7d8b93", "#cc68a8",
];
const DASHES = ["solid", "dash", "dot", "dashdot"];
export const LENGTHS = { solid: [], dash: [6, 4], dot: [2, 3], dashdot: [6, 3, 2, 3] }; // px of dashes and gaps on a canvas
export const BORDERS = { solid: "solid", dash: "dashed", dot: "dotted", dashdot: "double" };

export const colourOf = (i) => COLOURS[i % COLOURS.length];
export const dashOf = (i) => DASHES[Math.floor(i / COLOURS.length) % DASHES.length];
export const faded = (k) => 0.3 + 0.7 / (1 + k); // opacity of the k-th period before the current one
