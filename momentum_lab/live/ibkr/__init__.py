"""The only rooms that know the broker's library."""
