"""Scenario runners, comparisons, reports and the command line."""
