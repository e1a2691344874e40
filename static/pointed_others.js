// Names the others behind a place of their band: when the viewer points at it, a tip shows the series with the least
// and the greatest value there. The server returns them; components/charts/legend.py describes its reply.

import { channel } from "./channel.js";
import { made } from "./element.js";
import { withUnit } from "./units.js";

const REST = 120; // ms that the pointer stays in a pixel column before the request to the server
const NEAR = 6; // px around the band, and between two of its columns, within which the pointer counts as on it
const MOST = 40; // columns to search beside the pointer
const STYLE = `
.lb-pointed-others { position: absolute; z-index: 3; left: 0; bottom: 40px; width: max-content; max-width: min(24rem, 80%); padding: 4px 8px; pointer-events: none;
  box-sizing: border-box; font-size: 0.75rem; line-height: 1.45; font-variant-numeric: tabular-nums; border-radius: 0.35rem;
  color: var(--st-text-color, #222); background: var(--st-background-color, #fff); border: 1px solid var(--st-border-color, #8884); box-shadow: 0 2px 8px #0002; }
.lb-pointed-others[hidden] { display: none; }
.lb-pointed-others div { display: flex; gap: 0.7em; }
.lb-pointed-others b { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lb-pointed-others span { flex: none; }
.lb-pointed-others .lb-what { width: 4.2em; opacity: 0.7; }
.lb-pointed-others .lb-when { opacity: 0.7; }
@media (max-width: 640px) {
  .lb-pointed-others div { flex-wrap: wrap; gap: 0 0.7em; }
  .lb-pointed-others b { flex: 1 0 calc(100% - 5em); }
}`;

let sheet;

// Lines of the tip for the least and the greatest value: [what, series, value, when]. First argument: the server's
// reply.
export function linesOf({ extremes }, unit, clock) {
  const line = (what, [series, value, time]) => [what, series.replace("\x1f", ", "), withUnit(value, unit), `at ${clock(time)}`];
  if (!extremes?.length) return [];
  const [least, greatest] = extremes;
  if (least[0] === greatest[0] && least[1] === greatest[1]) return [line("value", greatest)];
  return [line("greatest", greatest), line("least", least)];
}

export function watchOthers(chart) {
  if (!sheet) document.head.append((sheet = made("style", "", STYLE)));
  const tip = made("div", "lb-pointed-others");
  tip.setAttribute("role", "status");
  tip.hidden = true;
  chart.plot.append(tip);
  let [column, waiting, asking, known] = [null, null, false, null]; // known: [column, the server's reply]

  const same = (one, other) => one && other && one.from === other.from && one.to === other.to;
  const ask = async () => {
    if (asking || !column) return;
    const asked = column;
    asking = true;
    const answer = await channel().question(chart.plugged, { others: [asked.from, asked.to] });
    asking = false;
    known = [asked, answer];
    if (same(column, asked)) show();
    else ask(); // the pointer has moved on
  };
  const show = () => {
    tip.hidden = !column;
    if (!column) return;
    const answer = same(known?.[0], column) ? known[1] : null;
    const lines = answer ? linesOf(answer, chart.config.unit, (time) => chart.zone.clock(time)) : [];
    const count = answer?.count ?? 0;
    const head = chart.series[chart.others].name + (lines.length ? `, ${count.toLocaleString("en")} with values here` : "");
    const why = answer?.error ?? (answer && !lines.length ? "Their rows have left the page's look-back." : answer ? "" : "…");
    tip.replaceChildren(made("div", "", head), ...lines.map(([what, series, value, when]) => {
      const row = made("div");
      row.append(made("span", "lb-what", what), made("b", "", series), made("span", "", value), made("span", "lb-when", when));
      return row;
    }), ...(why ? [made("div", "", why)] : []));
    const width = chart.plot.clientWidth;
    const left = column.px + 14 + tip.offsetWidth < width ? column.px + 14 : column.px - 14 - tip.offsetWidth;
    tip.style.transform = `translateX(${Math.max(0, Math.round(left))}px)`;
  };
  const point = (event) => {
    const found = event && chart.plugged !== null && !chart.held ? bandAt(chart, event) : null;
    const moved = !same(found, column);
    column = found;
    if (moved || !found) clearTimeout(waiting);
    if (moved && found) waiting = setTimeout(ask, REST);
    show();
  };
  chart.plot.addEventListener("pointermove", point);
  chart.plot.addEventListener("pointerleave", () => point(null));
}

// The pixel column of the band at the pointer, with its place; null if the pointer is beside the band.
function bandAt(chart, { clientX, clientY }) {
  const axis = chart.others === null || chart.hidden.has(chart.idOf(chart.others)) ? null : chart.timeAxis();
  if (!axis) return null;
  const box = chart.plot.getBoundingClientRect();
  const [px, py] = [clientX - box.left - axis.left, clientY - box.top - axis.top];
  if (px < 0 || px > axis.width || py < 0 || py > axis.height) return null;
  const time = axis.time(px);
  const step = chart.finer?.step ?? chart.step;
  const wide = axis.at(time + step) - axis.at(time);
  for (let away = 0; away <= Math.min(MOST, Math.ceil(NEAR / wide)); away++) {
    for (const beside of away ? [-away, away] : [0]) {
      const column = chart.pixelColumn(chart.others, time + beside * step);
      if (!column) continue;
      const [low, high] = chart.cellAt(chart.others, column).map((value) => chart.plot._fullLayout.yaxis.d2p(value));
      return py <= low + NEAR && py >= high - NEAR ? { ...column, px: axis.left + px } : null;
    }
  }
  return null;
}
