// Takes on a role and reads the stream S with its rights: node role.mjs <url> <credentials of the broker> <role>
import { readFileSync } from "node:fs";
import { connect, credsAuthenticator, jwtAuthenticator, nkeys } from "@nats-io/transport-node";
import { DeliverPolicy, jetstream } from "@nats-io/jetstream";

const [url, file, role] = process.argv.slice(2);
const user = nkeys.createUser(); // its seed stays here
const broker = await connect({
  servers: url,
  authenticator: credsAuthenticator(readFileSync(file)),
  inboxPrefix: "_INBOX_app.broker",
});
const request = { role, key: user.getPublicKey() };
const reply = await broker.request("tokens.mint", JSON.stringify(request), { timeout: 10000 });
await broker.close();
const refusal = reply.headers?.get("Nats-Service-Error");
if (refusal) {
  console.log(`refused: ${refusal}`);
  process.exit();
}
const token = reply.json();
const connection = await connect({
  servers: url,
  authenticator: jwtAuthenticator(token.jwt, user.getSeed()),
  inboxPrefix: token.inbox_prefix,
});
const consumers = jetstream(connection, { timeout: 3000 }).consumers;
const consumer = await consumers.getPushConsumer("S", { deliver_policy: DeliverPolicy.All });
const messages = await consumer.consume();
let left = 3;
for await (const message of messages) {
  console.log(message.string());
  if (--left === 0) break;
}
for (const subject of ["$JS.API.STREAM.INFO.OTHER", "$JS.API.STREAM.PURGE.S", "tokens.mint"]) {
  const answer = await connection.request(subject, "", { timeout: 3000 }).catch((error) => error);
  console.log(`${subject}: ${answer.cause?.name ?? answer.name ?? "answered"}`);
}
const others = connection.subscribe("_INBOX_app.>", { callback: (error) => console.log(`_INBOX_app.>: ${error?.name}`) });
await others.closed.catch(() => {});
await connection.close();
