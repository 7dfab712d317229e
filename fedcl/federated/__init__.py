"""Federated methods, both halves in one file each, and the loop that runs them."""
