"""What is remembered: the trade store (SQLite) and tapes (Parquet)."""
