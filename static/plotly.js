// Shared by all charts that Plotly draws: the library itself, and times, units and texts in its format.

let plotly;
export function loadPlotly(file) {
  plotly ??= new Promise((resolve, reject) => {
    if (window.Plotly) return resolve(window.Plotly);
    const script = document.createElement("script");
    script.src = new URL(file, import.meta.url);
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = undefined; // so that the next refresh tries again
      reject(new Error(`${file} could not be loaded`));
    };
    document.head.append(script);
  });
  return plotly;
}

// A time of a bin, like the text of Chart.local(). Plotly has to parse a text, but can compute with a Date directly. It
// would shift a plain Date by the zone's offset at that time.
export class AxisTime extends Date {
  static known = new Map(); // all charts draw the same times repeatedly

  static of(ms) {
    let time = this.known.get(ms);
    if (time) return time;
    if (this.known.size > 50_000) this.known.clear();
    this.known.set(ms, (time = new this(ms)));
    return time;
  }

  getTimezoneOffset() {
    return 0;
  }

  getMinutes() {
    return this.getUTCMinutes();
  }

  getSeconds() {
    return this.getUTCSeconds();
  }

  getMilliseconds() {
    return this.getUTCMilliseconds();
  }

  toString() {
    return this.toISOString().slice(0, -1);
  }
}

// A Plotly time in ms since the epoch, as if it were UTC.
export function parsed(time) {
  const text = String(time).replace(" ", "T");
  return Date.parse(text.includes("T") ? `${text}Z` : text);
}

// A unit as written after a number of an axis. Plotly ends large numbers with an SI prefix, which belongs to a
// unit of letters: "2.5GB". Any other unit stands apart: "80 1/s".
export const behind = (unit) => (/^\p{L}/u.test(unit) ? unit : unit && `\u00a0${unit}`);

// Names come from NATS and are data. Plotly would interpret some HTML in them.
export function escapeMarkup(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
