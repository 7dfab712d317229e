"""One file a scenario: what is run, step by step, and what is measured."""
