"""Data files of senders that need no module; read by ``ingest.providers.preset``."""
