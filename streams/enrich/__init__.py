"""The fold of one partition: state, deduplication, enrichment, minute counts. Pure."""
