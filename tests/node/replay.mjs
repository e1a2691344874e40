// Replays a whole stream with an ordered consumer and JSON.parse, and prints the seconds from the request to the
// last row: node replay.mjs <url> <stream> <messages>
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const [url, stream, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const connection = await connect({ servers: url });
const js = jetstream(connection);
const rows = [];
const start = performance.now();
const consumer = await js.consumers.get(stream, { deliver_policy: "all" });
await new Promise((done) => {
  consumer.consume({
    max_messages: 10_000,
    callback: (message) => {
      rows.push({ seq: message.seq, subject: message.subject, ...message.json() });
      if (rows.length === count) done();
    },
  });
});
console.log((performance.now() - start) / 1000);
process.exit(rows.every((row) => typeof row.value === "number") ? 0 : 1);
