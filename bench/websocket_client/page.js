// What a page without a server of its own does: follows a stream over NATS's websocket, and keeps the rows of the
// look-back by series. It draws nothing, which would cost no bytes.
//
// ?server=ws://…&stream=…&seconds=…

import { jetstream } from "@nats-io/jetstream";
import { wsconnect } from "@nats-io/nats-core";

const query = new URLSearchParams(location.search);
const span = Number(query.get("seconds")) * 1000;
const series = new Map();
globalThis.client = { received: 0, caughtUp: null, series };

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
}
