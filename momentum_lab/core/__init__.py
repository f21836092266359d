"""The rules: pure functions and values. Standard library and numpy only."""
