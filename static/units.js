// Numbers and their units as text. components/units.py has the same rules, and describes them.

const NAMES = { bytes: "B", "bytes/s": "B/s", percent: "%", us: "µs" };
const PREFIXES = ["", "k", "M", "G", "T", "P", "E"];
const SECONDS = { ns: -9, µs: -6, ms: -3, s: 0 };
const MINUTES = { min: 60, h: 3600, d: 86400 };
const PARTS = [["d", 86400], ["h", 3600], ["min", 60]];
const WIDEST = 2 ** 53;
const [LARGE, TINY] = [1e5, 1e-6];
const [LEAST, MOST] = [1e-15, 1e21];
const ROUGH = 5; // significant digits of the ends of a range

const format = (options) => new Intl.NumberFormat("en", { roundingMode: "halfEven", ...options });
const both = (options) => ({ grouped: format(options), bare: format({ useGrouping: false, ...options }) });
const SIGNIFICANT = { [ROUGH]: both({ maximumSignificantDigits: ROUGH }), 8: both({ maximumSignificantDigits: 8 }) };
const FRACTION = both({ maximumFractionDigits: 3 });

export const unitName = (unit) => NAMES[unit] ?? unit;

// A number without a unit. A text of digits is an integer too large for a JavaScript number.
export function short(value) {
  return numbered(value, 8);
}

// The same for the ends of a range.
export function rough(value) {
  return numbered(value, ROUGH);
}

// A number with its unit; roughUnit() for the ends of a range.
export const withUnit = (value, unit) => text(value, unit, 8);
export const roughUnit = (value, unit) => text(value, unit, ROUGH);

// The seconds in a unit of durations; null for other units.
export function inSeconds(unit) {
  const name = unitName(unit);
  return MINUTES[name] ?? (name in SECONDS ? Number(`1e${SECONDS[name]}`) : null);
}

export function scales(unit) {
  const name = unitName(unit);
  return name === "B" || name === "B/s" || name in SECONDS || name in MINUTES;
}

function numbered(value, most) {
  if (typeof value === "string") return value[0] === "-" ? `-${grouped(value.slice(1))}` : grouped(value);
  const size = Math.abs(value);
  if (size >= TINY && size < WIDEST) return formatOf(size, most).grouped.format(value);
  if (size === 0) return "0";
  if (Number.isNaN(value)) return "n/a";
  const [sign, digits] = digitsOf(value, most);
  const [mantissa, exponent] = Number(digits).toExponential(7).split("e");
  return `${size < TINY ? "" : "≈ "}${sign}${bare(mantissa)}e${exponent}`;
}

function text(value, unit, most) {
  const name = unitName(unit);
  if (Number.isNaN(value)) return "n/a";
  if (!scales(name)) return name ? `${numbered(value, most)} ${name}` : numbered(value, most);
  const size = Math.abs(value) * (inSeconds(name) ?? 1);
  if (size !== 0 && !(size >= LEAST && size < MOST)) return `${numbered(value, most)} ${name}`;
  const [sign, digits] = digitsOf(name in MINUTES ? value * MINUTES[name] : value, most);
  if (name in MINUTES) return sign + duration(digits, 0, "s");
  if (name in SECONDS) return sign + duration(digits, SECONDS[name], name);
  const power = Math.min(Math.max(0, Math.floor(magnitude(digits) / 3)), PREFIXES.length - 1);
  return `${sign}${grouped(shifted(digits, -3 * power))} ${PREFIXES[power]}${name}`;
}

function duration(digits, power, unit) {
  if (magnitude(digits) === null) return `0 ${unit}`;
  const seconds = shifted(digits, power);
  if (Number(seconds) < 60) {
    const at = Math.max(-9, Math.min(0, 3 * Math.floor(magnitude(seconds) / 3)));
    const name = Object.keys(SECONDS).find((each) => SECONDS[each] === at);
    return `${shifted(seconds, -at)} ${name}`;
  }
  const [whole, rest] = seconds.split(".");
  let left = BigInt(whole);
  const parts = [];
  for (const [name, length] of PARTS) {
    const count = left / BigInt(length);
    left %= BigInt(length);
    if (count) parts.push(`${grouped(String(count))} ${name}`);
  }
  if (left || rest) parts.push(`${left}${rest ? `.${rest}` : ""} s`);
  return parts.join(" ");
}

// The sign, and the decimal digits.
function digitsOf(value, most) {
  if (typeof value === "string") return value[0] === "-" ? ["-", value.slice(1)] : ["", value];
  const size = Math.abs(value);
  return [value < 0 ? "-" : "", formatOf(size, most).bare.format(size)];
}

const formatOf = (size, most) => (size >= LARGE && size < WIDEST ? FRACTION : SIGNIFICANT[most]);

// The power of ten of the first digit, null for zero.
function magnitude(digits) {
  const [whole, rest = ""] = digits.split(".");
  if (/[1-9]/.test(whole)) return whole.length - 1;
  const first = rest.search(/[1-9]/);
  return first < 0 ? null : -first - 1;
}

function shifted(digits, by) {
  const [whole, rest = ""] = digits.split(".");
  const all = "0".repeat(Math.max(0, -by)) + whole + rest + "0".repeat(Math.max(0, by));
  const point = Math.max(0, -by) + whole.length + by;
  return bare(`${all.slice(0, point).replace(/^0+(?=\d)/, "")}.${all.slice(point)}`);
}

const bare = (digits) => (digits.includes(".") ? digits.replace(/\.?0*$/, "") : digits);

function grouped(digits) {
  const [whole, rest] = digits.split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest === undefined ? "" : `.${rest}`);
}
