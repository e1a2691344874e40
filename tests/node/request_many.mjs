// A caller that knows only request-many with a sentinel: node request_many.mjs <url> <sql>
import { connect } from "@nats-io/transport-node";

const connection = await connect({ servers: process.argv[2] });
const request = JSON.stringify({ sql: process.argv[3] });
const answer = await connection.requestMany("history.query", request, { strategy: "sentinel", maxWait: 30000 });
const rows = [];
let messages = 0;
for await (const message of answer) {
  messages++;
  if (message.data.length > 0) rows.push(...message.json());
}
await connection.close();
console.log(JSON.stringify({ messages, rows: rows.length, first: rows.at(0), last: rows.at(-1) }));
