"""Federated learning on streams: what each client remembers of its earlier classes."""
