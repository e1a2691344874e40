// Where the texts of events stand.

import assert from "node:assert/strict";
import { test } from "node:test";

import { textPlaces } from "../../static/event_marks.js";

const GAP = 4; // px between a mark and its text

function spans(marks, width) {
  return textPlaces(marks, width).map(({ left, room }, i) => {
    const [at] = marks[i];
    return left ? [at - GAP - room, at - GAP] : [at + GAP, at + GAP + Math.max(0, room)];
  });
}

test("a text on the left of the last mark takes its room from the one before", () => {
  const marks = [[90, "archive succeeded"], [250, "archive succeeded"]];
  const places = textPlaces(marks, 260);
  assert.deepEqual(places.map(({ left }) => left), [false, true]);
  const [[, end], [start]] = spans(marks, 260);
  assert.ok(end <= start, `${end} <= ${start}`);
});

test("no text lies on another, nor beyond the chart", () => {
  for (let round = 0; round < 500; round += 1) {
    const width = 100 + ((round * 37) % 900);
    const marks = Array.from({ length: round % 7 }, (_, i) => [(((round + 1) * (i + 3) * 7919) % 1000) / 1000 * width, "x".repeat((round * i) % 40)]);
    marks.sort(([one], [other]) => one - other);
    const found = spans(marks, width);
    found.forEach(([start, end], i) => {
      const [at] = marks[i];
      if (end - start >= 1) assert.ok(start >= 0 && end <= Math.max(width, at + GAP), `${round}: ${start} to ${end} of ${width}`);
      if (i && end - start >= 1 && found[i - 1][1] - found[i - 1][0] >= 1) assert.ok(found[i - 1][1] <= start, `${round}: ${found[i - 1]}, ${start}`);
    });
  }
});
