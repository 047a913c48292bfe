"""Backups of everything that is stored, as of one coordinate, and their restore."""
