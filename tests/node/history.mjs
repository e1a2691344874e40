// Answers history.query in chunks of JSON, knowing only that zero bytes end it: node history.mjs <url>
import { connect } from "@nats-io/transport-node";

const connection = await connect({ servers: process.argv[2] });
const requests = connection.subscribe("history.query");
await connection.flush();
console.log("ready");
for await (const request of requests) answer(request);

async function answer(request) {
  const { sql } = request.json();
  const chunks = Number(/\d+/.exec(sql)[0]); // "SELECT <number of chunks>"
  for (let chunk = 0; chunk < chunks; chunk++) {
    const rows = [0, 1].map((row) => ({
      time: new Date(Date.UTC(2026, 0, 1, 0, 0, 2 * chunk + row)).toISOString(),
      host: "node",
      n: 2 * chunk + row,
    }));
    request.respond(JSON.stringify(rows));
    if (chunks > 100) await new Promise((done) => setTimeout(done, 20));
  }
  request.respond(new Uint8Array());
}
