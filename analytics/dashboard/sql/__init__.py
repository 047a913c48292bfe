"""The page ``/sql``: an analyst's queries, through the read-only interface only."""
