// What a browser may do over the websocket: node account.mjs <url> <origin> <jwt> <seed> <inbox prefix>
// The JWT comes in the cookie, as the app sets it for a browser; an empty one is none.
import { nkeyAuthenticator, wsconnect } from "@nats-io/nats-core";
import { jetstream } from "@nats-io/jetstream";
import WebSocket from "ws";

const [url, origin, jwt, seed, inboxPrefix] = process.argv.slice(2);
const headers = jwt ? { Cookie: `nats_jwt=${jwt}` } : {};
const sign = nkeyAuthenticator(new TextEncoder().encode(seed));
let connection;
try {
  connection = await wsconnect({
    servers: url,
    inboxPrefix,
    reconnect: false,
    authenticator: (nonce) => ({ sig: sign(nonce).sig }),
    wsFactory: async () => ({ socket: new WebSocket(url, { origin, headers }), encrypted: false }),
  });
} catch (error) {
  console.log(JSON.stringify({ connected: false, error: String(error) }));
  process.exit();
}

async function allowed(work) {
  try {
    await work();
    return true;
  } catch (error) {
    return /permission/i.test(`${error} ${error.cause}`) ? false : String(error);
  }
}

const stream = jetstream(connection, { domain: "data" });
const subscribed = async (subject) => {
  let failure;
  connection.subscribe(subject, { callback: (error) => (failure = error) });
  await connection.flush();
  await new Promise((done) => setTimeout(done, 300));
  if (failure) throw failure;
};
console.log(
  JSON.stringify({
    connected: true,
    look: await allowed(() => connection.request("$JS.data.API.STREAM.INFO.METRICS")),
    list: await allowed(() => connection.request("$JS.data.API.STREAM.LIST")),
    put: await allowed(() => stream.publish("$KV.thresholds.cpu", "92")),
    purge: await allowed(() => connection.request("$JS.data.API.STREAM.PURGE.METRICS", '{"filter":"metrics.x"}')),
    everything: await allowed(() => subscribed(">")),
    inboxes: await allowed(() => subscribed("_INBOX_app.>")),
  }),
);
await connection.close();
