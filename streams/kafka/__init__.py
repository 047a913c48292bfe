"""Topics, access rules, readers and the schema registry: what mailpulse asks of Kafka itself."""
