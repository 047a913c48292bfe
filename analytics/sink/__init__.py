"""From Kafka into ClickHouse: read, insert, commit."""
