"""What a synthetic set is asked to have in common with the real one: one file an objective."""
