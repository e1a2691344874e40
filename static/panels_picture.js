// Small multiples as a PNG: all panels, including those outside the screen, and the parts that are HTML on the page:
// title, names, labels of the axes and legend.

import { made } from "./element.js";
import { LENGTHS } from "./line_looks.js";
import { withUnit } from "./units.js";

const SCALE = 2; // pixels per px
const [LONGEST, MOST] = [16_000, 16_000_000]; // most pixels of a side and of a canvas that every browser draws
const EDGE = 12; // px around everything
const [TITLE, NAME, LINE] = [34, 18, 20]; // px of the title, a panel's name and a line of the legend
const SWATCH = 22; // px before a name in the legend
const ALERT = "#d6453d";
const CAMERA = "M4 6h3l1.5-2h5L15 6h3a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1zm7 2a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z";

export const PICTURE_STYLE = `
.lb-panels-picture { all: unset; position: absolute; right: 10px; top: 20px; z-index: 2; padding: 2px; line-height: 0; cursor: pointer; opacity: 0;
  color: var(--st-border-color, #8888); }
:is(.lb-panels:hover, .lb-panels:focus-within) .lb-panels-picture { opacity: 1; }
.lb-panels-picture:is(:hover, :focus-visible) { color: var(--st-text-color, currentColor); }
.lb-panels-picture:focus-visible { outline: 2px solid var(--st-primary-color, #0b6e7f); }`;

// The button for the PNG: at the place of the one in Plotly's charts, and visible when that would be.
export function pictureButton(clicked) {
  const button = made("button", "lb-panels-picture");
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of [["width", 20], ["height", 20], ["viewBox", "0 0 22 22"], ["fill", "currentColor"]]) icon.setAttribute(name, value);
  path.setAttribute("d", CAMERA);
  path.setAttribute("fill-rule", "evenodd");
  icon.append(path);
  button.type = "button";
  button.title = "Download as PNG";
  button.setAttribute("aria-label", button.title);
  button.append(icon);
  button.onclick = clicked;
  return button;
}

export async function downloadPicture(panels) {
  const blob = await new Promise((done) => picture(panels).toBlob(done, "image/png"));
  const link = made("a");
  link.href = URL.createObjectURL(blob);
  link.download = "chart.png";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// A canvas with everything.
export function picture(panels) {
  const { chart, axes } = panels;
  const canvas = made("canvas");
  const pen = canvas.getContext("2d");
  const wide = chart.parent.clientWidth + 2 * EDGE;
  const font = (size, weight = 400) => (pen.font = `${weight} ${size}px ${axes.family}`);
  font(12);
  const top = EDGE + (chart.config.title ? TITLE : 0);
  const legend = legendOf(pen, panels, wide - 2 * EDGE);
  const high = top + chart.plot.clientHeight + legend.high + EDGE;
  const scale = Math.min(SCALE, LONGEST / Math.max(wide, high), Math.sqrt(MOST / (wide * high)));
  [canvas.width, canvas.height] = [Math.round(wide * scale), Math.round(high * scale)];
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.fillStyle = axes.ground;
  pen.fillRect(0, 0, wide, high);
  pen.textBaseline = "middle";
  pen.fillStyle = axes.text;
  font(15, 600);
  if (chart.config.title) pen.fillText(cut(pen, chart.config.title, wide - 2 * EDGE), EDGE, EDGE + TITLE / 2 - 4);
  panels.shown.forEach((panel, i) => {
    const [left, above] = [EDGE + panel.root.offsetLeft, top + panel.root.offsetTop];
    pen.save();
    pen.translate(left, above + NAME);
    pen.beginPath();
    pen.rect(0, 0, axes.wide, axes.tall);
    pen.clip();
    panels.paintWith(pen, panel);
    pen.restore();
    Object.assign(pen, { fillStyle: axes.text, textBaseline: "middle", textAlign: "left" });
    font(12, 600);
    pen.fillText(cut(pen, panel.name || "(empty)", axes.wide), left, above + NAME / 2);
    font(11);
    pen.globalAlpha = 0.7;
    for (const { text, x } of panels.timesBelow(i)) pen.fillText(text, left + x, above + NAME + axes.tall + 11);
    pen.textAlign = "right";
    for (const { text, y } of panels.valuesBeside(i)) pen.fillText(text, left - 6, above + NAME + y);
    pen.globalAlpha = 1;
    pen.textAlign = "left";
  });
  font(12);
  pen.translate(EDGE, top + chart.plot.clientHeight);
  legend.draw();
  return canvas;
}

// The names of lines, the thresholds, the note about undrawn parts and the time zone: their height, px, and a function
// that draws them.
function legendOf(pen, panels, wide) {
  const { chart } = panels;
  const lines = [...panels.lines.keys()].filter((line) => !chart.hidden.has(line));
  const entries = [];
  for (const line of panels.lines.size > 1 ? lines : []) {
    const at = chart.series.findIndex((series, i) => i !== chart.others && chart.idOf(i) === line);
    entries.push({ text: line, swatch: chart.lookOf(at) });
  }
  for (const [name, value] of chart.config.thresholds ?? []) entries.push({ text: `${name} ${withUnit(value, chart.config.unit)}`, alert: true });
  const undrawn = chart.legend.undrawn();
  if (undrawn) entries.push({ text: undrawn });
  entries.push({ text: `${chart.zone.text(panels.axes.from).slice(0, 10)}, ${chart.zone.called(chart.reference())}` });
  let [x, y] = [0, 0];
  for (const entry of entries) {
    const before = entry.swatch ? SWATCH : 0;
    entry.text = cut(pen, entry.text, wide - before);
    const width = before + pen.measureText(entry.text).width;
    if (x > 0 && x + width > wide) [x, y] = [0, y + LINE];
    Object.assign(entry, { x, y: y + LINE / 2, before });
    x += width + 16;
  }
  const draw = () => {
    for (const { text, x, y, before, swatch, alert } of entries) {
      if (swatch) {
        Object.assign(pen, { strokeStyle: swatch.colour, lineWidth: 2 });
        pen.setLineDash(LENGTHS[swatch.dash]);
        pen.beginPath();
        pen.moveTo(x, y);
        pen.lineTo(x + before - 6, y);
        pen.stroke();
      }
      pen.fillStyle = alert ? ALERT : panels.axes.text;
      pen.fillText(text, x + before, y);
    }
  };
  return { high: y + LINE, draw };
}

// The text, cut to the room in px.
export function cut(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  const letters = [...text];
  let [least, most] = [0, letters.length];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (pen.measureText(`${letters.slice(0, middle).join("")}…`).width <= room) least = middle;
    else most = middle - 1;
  }
  return least ? `${letters.slice(0, least).join("")}…` : "";
}
