"""A data directory and the topics of an earlier day, which every change must open unchanged."""
