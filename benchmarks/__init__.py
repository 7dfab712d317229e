"""Timed comparisons, run by hand: one script each, their tables in README.md."""
