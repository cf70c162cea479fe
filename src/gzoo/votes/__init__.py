"""Vote tables: reading, auditing and summarising vote counts."""
