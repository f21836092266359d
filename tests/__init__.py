"""Tests; a package by name, for one of the libraries installs a top-level `tests` too."""
