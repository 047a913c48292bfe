"""What two processes must agree on: events, schemas, topics, settings; no I/O, no other package."""
