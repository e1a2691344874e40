// The bar of a playback. components/play/bar.py sends it, and receives the viewer's actions.

import { define, Element, made, say } from "./element.js";

const STYLE = `
.lb-play_bar { display: flex; flex-wrap: wrap; align-items: center; gap: 0.35rem 0.8rem; padding: 0.35rem 0.6rem;
  border: 1px solid color-mix(in srgb, currentColor 18%, transparent); border-radius: 0.5rem; font-size: 0.875rem;
  font-variant-numeric: tabular-nums; }
.lb-play_bar > div { display: flex; align-items: center; gap: 0.3rem; }
.lb-play_bar button, .lb-play_bar select { font: inherit; color: inherit; background: transparent; height: 2.1rem; cursor: pointer;
  border: 1px solid color-mix(in srgb, currentColor 22%, transparent); border-radius: 0.4rem; }
.lb-play_bar button { min-width: 2.3rem; padding: 0 0.4rem; display: inline-flex; align-items: center; justify-content: center; }
.lb-play_bar select { padding: 0 0.3rem; }
.lb-play_bar option { color: #111; background: #fff; }
.lb-play_bar :is(button, select):hover { border-color: currentColor; }
.lb-play_bar :is(button, select, .lb-track):focus-visible { outline: 2px solid var(--st-primary-color, #0b6e7f); outline-offset: 1px; }
.lb-play_bar svg { width: 1rem; height: 1rem; fill: currentColor; }
.lb-play_bar .lb-track { position: relative; flex: 1 1 16rem; height: 2.1rem; gap: 0; cursor: pointer; touch-action: none;
  border-radius: 0.3rem; background: color-mix(in srgb, currentColor 7%, transparent); overflow: hidden; }
.lb-track svg { position: absolute; inset: 0; width: 100%; height: 100%; fill: color-mix(in srgb, currentColor 32%, transparent); pointer-events: none; }
.lb-track .lb-marks { fill: #d6453d; }
.lb-track i { position: absolute; left: 0; top: 0; bottom: 0; pointer-events: none; border-right: 2px solid var(--st-primary-color, #0b6e7f);
  background: color-mix(in srgb, var(--st-primary-color, #0b6e7f) 16%, transparent); box-sizing: border-box; }
.lb-track b { position: absolute; top: 0; bottom: 0; width: 0; border-left: 1px dashed currentColor; display: none; pointer-events: none; }
.lb-play_bar .lb-when { min-width: 5.2rem; font-weight: 600; }
.lb-track .lb-note { position: absolute; right: 0.4rem; top: 50%; transform: translateY(-50%); padding: 0 0.4rem; border-radius: 0.3rem;
  pointer-events: none; background: var(--st-background-color, Canvas); }
.lb-track .lb-note:empty { display: none; }
@media (max-width: 640px) { .lb-play_bar .lb-track { flex-basis: 100%; order: 1; } }`;

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: "M5 3l9 5-9 5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  back: "M12 3v10L5 8zM3 3h1.6v10H3z",
  forward: "M4 3v10l7-5zM11.4 3H13v10h-1.6z",
};
const HEIGHT = 100; // of the density, in its own units
const TELL_EVERY = 250; // minimum ms between two steps sent, so that a held key queues no reruns of the page
const TYPED = "input, textarea, select, button, a, summary, [contenteditable], [role=slider], [role=radio], [role=option], [role=tab], [role=grid], [role=textbox], [role=dialog]";

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

class PlayBar extends Element {
  build() {
    const button = (name, label, act) => {
      const found = made("button");
      found.type = "button";
      found.append(icon(name));
      found.title = label;
      found.setAttribute("aria-label", label);
      found.addEventListener("click", act);
      return found;
    };
    const controls = made("div");
    this.toggle = button("play", "Play (space)", () => this.turn());
    this.speed = made("select");
    this.speed.title = "Speed";
    this.speed.setAttribute("aria-label", "Speed");
    this.speed.addEventListener("change", () => this.ask("speed", Number(this.speed.value)));
    controls.append(
      button("back", "One message back (left arrow)", () => this.step(-1)),
      this.toggle,
      button("forward", "One message on (right arrow)", () => this.step(1)),
      this.speed,
    );
    this.track = made("div", "lb-track");
    this.track.tabIndex = 0;
    this.track.setAttribute("role", "slider");
    this.track.setAttribute("aria-label", "Where the playback is");
    this.density = document.createElementNS(SVG, "svg");
    this.density.setAttribute("preserveAspectRatio", "none");
    this.density.append(...["lb-density", "lb-marks"].map((name) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      return path;
    }));
    this.done = made("i");
    this.ghost = made("b");
    this.note = made("span", "lb-note");
    this.track.append(this.density, this.done, this.ghost, this.note);
    this.when = made("span", "lb-when");
    this.root.append(controls, this.track, this.when);
    this.drag();
    this.keys = (event) => this.pressed(event);
    document.addEventListener("keydown", this.keys);
  }

  end() {
    document.removeEventListener("keydown", this.keys);
    clearTimeout(this.stepping);
  }

  // `n` distinguishes two equal requests.
  ask(what, value) {
    this.asked = (this.asked ?? 0) + 1;
    this.clicked({ do: what, value, n: this.asked });
  }

  turn() {
    this.ask(this.content?.playing ? "pause" : "play");
  }

  step(count) {
    this.steps = (this.steps ?? 0) + count;
    if (this.stepping) return;
    const send = () => {
      this.stepping = undefined;
      const steps = Math.max(-100, Math.min(100, this.steps));
      this.steps = 0;
      if (!steps) return;
      this.ask("step", steps);
      this.stepping = setTimeout(send, TELL_EVERY);
    };
    send();
  }

  pressed(event) {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !this.root.isConnected) return;
    const own = event.target === this.track;
    if (!own && event.target.closest?.(TYPED)) return;
    const { start, end } = this.settings;
    if (event.key === " ") {
      if (!event.repeat) this.turn();
    } else if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "ArrowRight") this.step(1);
    else if (own && event.key === "Home") this.ask("jump", start);
    else if (own && event.key === "End") this.ask("jump", end);
    else return;
    event.preventDefault();
  }

  drag() {
    const share = (event) => {
      const { left, width } = this.track.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - left) / width));
    };
    const point = (event) => {
      this.ghost.style.display = "block";
      this.ghost.style.left = `${100 * share(event)}%`;
    };
    this.track.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.track.setPointerCapture(event.pointerId);
      this.held = true;
      point(event);
    });
    this.track.addEventListener("pointermove", point);
    this.track.addEventListener("pointerleave", () => (this.ghost.style.display = "none"));
    this.track.addEventListener("pointercancel", () => (this.held = false));
    this.track.addEventListener("pointerup", (event) => {
      if (!this.held) return;
      this.held = false;
      const { start, end } = this.settings;
      this.ask("jump", start + share(event) * (end - start));
    });
  }

  draw() {
    const { at, time, speed, density, marks, playing, loading, held } = this.content;
    const { start, end, speeds, ends } = this.settings;
    if (this.speed.childElementCount !== speeds.length) {
      this.speed.replaceChildren(...speeds.map((each) => {
        const option = made("option", "", `${each}×`);
        option.value = each;
        return option;
      }));
    }
    if (document.activeElement !== this.speed || this.shownSpeed !== speed) this.speed.value = speed;
    this.shownSpeed = speed;
    const shown = playing ? "pause" : "play";
    if (this.shown !== shown) {
      this.shown = shown;
      this.toggle.replaceChildren(icon(shown));
      const label = playing ? "Pause (space)" : "Play (space)";
      this.toggle.title = label;
      this.toggle.setAttribute("aria-label", label);
    }
    const share = Math.max(0, Math.min(1, (at - start) / (end - start)));
    this.done.style.width = `${100 * share}%`;
    this.track.setAttribute("aria-valuemin", 0);
    this.track.setAttribute("aria-valuemax", 100);
    this.track.setAttribute("aria-valuenow", Math.round(100 * share));
    this.track.setAttribute("aria-valuetext", time);
    this.track.title = `${ends[0]} to ${ends[1]}. Click to jump.`;
    say(this.when, time);
    say(this.note, loading ? "loading" : held && playing ? `held to ${held}×` : "");
    if (this.counted !== density) this.drawDensity((this.counted = density));
    if (this.marked !== marks) {
      this.marked = marks;
      this.density.lastChild.setAttribute("d", marks.map((place) => `M${place} 0h1v14h-1z`).join(""));
    }
  }

  // The number of messages in each part of the stretch, as square roots, so that a burst leaves the rest visible.
  drawDensity(density) {
    const most = Math.sqrt(Math.max(1, ...density));
    this.density.setAttribute("viewBox", `0 0 ${Math.max(1, density.length)} ${HEIGHT}`);
    const bars = density.map((count, i) => {
      const height = count ? Math.max(4, (HEIGHT * 0.9 * Math.sqrt(count)) / most) : 0;
      return height ? `M${i} ${HEIGHT}v${-height.toFixed(1)}h1V${HEIGHT}z` : "";
    });
    this.density.firstChild.setAttribute("d", bars.join(""));
  }
}

define("play_bar", PlayBar, STYLE);
