"""Programs beside the app: the embedded NATS server and what feeds it."""
