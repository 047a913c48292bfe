"""What a person reads on a terminal: texts made harmless, tables, JSON."""
