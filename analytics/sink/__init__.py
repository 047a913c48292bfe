"""Stores the topics in ClickHouse: read, insert, commit."""
