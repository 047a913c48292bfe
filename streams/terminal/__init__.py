"""Output for people and programs: escaped text, tables, JSON."""
