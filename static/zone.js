// Times in a zone: the browser's own, or one that the viewer chose. All of them in ms since the epoch.

import { apart } from "./apart.js";

const zones = new Map();

// The zone of this name. Without a name, or with one that the browser does not support, the browser's own zone.
export function zoneOf(name = "") {
  let zone = zones.get(name);
  if (!zone) zones.set(name, (zone = new Zone(name)));
  return zone;
}

// The zone of the page: from its address until the server sends one (components/choices/time_zone.py).
let page = new URLSearchParams(globalThis.location?.search ?? "").get("tz") ?? "";
const watchers = new Set();

export const pageZone = () => zoneOf(page);

export function setPageZone(name) {
  if (name === page) return;
  page = name;
  for (const changed of watchers) apart(changed);
}

// Call `changed` when the page's zone changes. Returns a function that ends this.
export function watchZone(changed) {
  watchers.add(changed);
  return () => watchers.delete(changed);
}

class Zone {
  constructor(name) {
    try {
      new Intl.DateTimeFormat("en", { timeZone: name || undefined });
    } catch {
      name = "";
    }
    this.own = !name;
    const format = (locale, options) => {
      const made = new Intl.DateTimeFormat(locale, { timeZone: name || undefined, ...options });
      return (ms) => made.format(ms);
    };
    const minutes = { hour: "2-digit", minute: "2-digit" };
    this.clock = format("en-GB", { ...minutes, second: "2-digit" }); // 14:03:20
    this.short = format("en-GB", minutes); // 14:03
    this.date = format("en-GB", { day: "numeric", month: "short" }); // 29 Nov
    this.parts = new Intl.DateTimeFormat("en-US", {
      timeZone: name || undefined, hourCycle: "h23", era: "short",
      year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
    });
    this.named = new Intl.DateTimeFormat("en", { timeZone: name || undefined, timeZoneName: "shortOffset" });
  }

  // How far the zone's clock is behind UTC at this time, in ms. The sign is that of Date.getTimezoneOffset().
  offset(ms) {
    if (this.own) return new Date(ms).getTimezoneOffset() * 60000;
    const at = Object.fromEntries(this.parts.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
    return Math.floor(ms / 1000) * 1000 - Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second);
  }

  // "2026-11-29 14:03:20.125"
  text(ms) {
    return new Date(ms - this.offset(ms)).toISOString().replace("T", " ").slice(0, -1);
  }

  // "Europe/Berlin, GMT+1"; "UTC" needs no offset
  called(ms) {
    const offset = this.named.formatToParts(ms).find((part) => part.type === "timeZoneName").value;
    const name = this.named.resolvedOptions().timeZone;
    return name === "UTC" ? name : `${name}, ${offset}`;
  }
}
