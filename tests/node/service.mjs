// A service with one endpoint that turns its payload around: node service.mjs <url>
import { connect } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";

const connection = await connect({ servers: process.argv[2] });
const service = await new Svcm(connection).add({
  name: "mirror",
  version: "1.2.3",
  description: "Turns texts around",
  metadata: { runtime: "node" },
});
service.addEndpoint("reverse", {
  subject: "mirror.reverse",
  metadata: { format: "text" },
  handler: (error, message) => {
    if (error) throw error;
    const text = message.string();
    if (text === "") message.respondError(400, "an empty text has no other end");
    else message.respond([...text].reverse().join(""));
  },
});
console.log(service.info().id);
