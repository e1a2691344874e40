// The page without a server of its own: it follows a stream over NATS's websocket and keeps the rows of the look-back
// by series. With `draw` it draws every row with Plotly, in the next animation frame after a message has arrived.
// Otherwise it draws nothing, because drawing costs no bytes.
//
// ?server=ws://…&stream=…&seconds=…[&draw]

import { jetstream } from "@nats-io/jetstream";
import { wsconnect } from "@nats-io/nats-core";

const query = new URLSearchParams(location.search);
const span = Number(query.get("seconds")) * 1000;
const series = new Map();
globalThis.client = { received: 0, caughtUp: null, series };
const changed = query.has("draw") ? await drawing() : () => {};

const connection = await wsconnect({ servers: query.get("server") });
const consumer = await jetstream(connection).consumers.get(query.get("stream"), {
  deliver_policy: "by_start_time",
  opt_start_time: new Date(Date.now() - span).toISOString(),
});
for await (const message of await consumer.consume()) {
  const row = message.json();
  if (!series.has(message.subject)) series.set(message.subject, { times: [], values: [], start: 0 });
  const kept = series.get(message.subject);
  kept.times.push(new Date(row.t).getTime());
  kept.values.push(row.value);
  while (kept.times[kept.start] < Date.now() - span) kept.start++;
  client.received++;
  if (message.info.pending === 0) client.caughtUp ??= performance.now();
  changed();
}

async function drawing() {
  const script = Object.assign(document.createElement("script"), { src: "plotly.min.js" });
  const chart = document.body.appendChild(document.createElement("div"));
  await new Promise((resolve, reject) => document.head.append(Object.assign(script, { onload: resolve, onerror: reject })));
  const draw = () => {
    waiting = false;
    const traces = [...series].map(([name, { times, values, start }]) => ({
      type: "scatter", mode: "lines", name, line: { width: 1.5 }, x: times.slice(start), y: values.slice(start),
    }));
    const now = Date.now();
    Plotly.react(chart, traces, { height: 320, showlegend: false, xaxis: { type: "date", range: [now - span, now] } });
  };
  let waiting = false;
  return () => {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  };
}
