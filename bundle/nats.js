// What static/websocket_reader.js needs of the NATS client.
export { jetstream } from "@nats-io/jetstream";
export { wsconnect } from "@nats-io/nats-core";
