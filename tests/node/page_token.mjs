// What somebody gets who has the token of a web page: node page_token.mjs <websocket URL> <JWT> <inbox prefix>.
// Prints an object of what was tried: "allowed", or what the server says.
import { jwtAuthenticator, wsconnect } from "@nats-io/nats-core";

const [url, jwt, inboxPrefix] = process.argv.slice(2);
const api = "$JS.data.API";
const nc = await wsconnect({ servers: url, authenticator: jwtAuthenticator(jwt), inboxPrefix, reconnect: false });
const denied = [];
(async () => {
  for await (const status of nc.status()) if (status.type === "error") denied.push(String(status.error.message));
})();

const consumer = (deliver, filter) => ({
  config: { deliver_subject: deliver, ack_policy: "none", deliver_policy: "last", name: "n", filter_subject: filter },
});
const requests = {
  "read COMPARISON": [`${api}.STREAM.INFO.COMPARISON`],
  "follow COMPARISON": [
    `${api}.CONSUMER.CREATE.COMPARISON.n`,
    { stream_name: "COMPARISON", ...consumer(`${inboxPrefix}.here`) },
  ],
  "read METRICS": [`${api}.STREAM.INFO.METRICS`],
  "follow METRICS": [`${api}.CONSUMER.CREATE.METRICS.n`, { stream_name: "METRICS", ...consumer(`${inboxPrefix}.x`) }],
  "list streams": [`${api}.STREAM.NAMES`],
  "purge COMPARISON": [`${api}.STREAM.PURGE.COMPARISON`],
  "delete a message": [`${api}.STREAM.MSG.DELETE.COMPARISON`, { seq: 1 }],
  "delete COMPARISON": [`${api}.STREAM.DELETE.COMPARISON`],
  "change COMPARISON": [`${api}.STREAM.UPDATE.COMPARISON`, { name: "COMPARISON", subjects: ["x"] }],
  "ask for a token": ["tokens.mint", { role: "operator", key: "U" }],
  "ask the history": ["history.query", { sql: "SELECT 1" }],
  "have something published": ["comparison.run", {}],
  "find services": ["$SRV.PING"],
  "ask the system": ["$SYS.REQ.SERVER.PING"],
  "publish into COMPARISON": ["simulated.series-1", { time: 0, value: 0 }],
  "publish into METRICS": ["metrics.cpu.total", {}],
  "set a threshold": ["$KV.thresholds.cpu", 1],
};
const found = {};
for (const [what, [subject, payload]] of Object.entries(requests)) {
  denied.length = 0;
  try {
    const reply = JSON.parse((await nc.request(subject, JSON.stringify(payload ?? {}), { timeout: 3000 })).string());
    found[what] = reply.error ? JSON.stringify(reply.error) : "allowed";
  } catch (error) {
    found[what] = String(error.cause?.message ?? error.message);
  }
}
for (const subject of [">", "simulated.>", "metrics.>", "_INBOX_app.>", "_INBOX_app.dashboard.>", "$SYS.>"]) {
  denied.length = 0;
  const subscription = nc.subscribe(subject, { callback: () => {} });
  await nc.flush();
  await new Promise((done) => setTimeout(done, 100));
  found[`subscribe to ${subject}`] = denied[0] ?? "allowed";
  subscription.unsubscribe();
}
console.log(JSON.stringify(found));
await nc.close();
