"""Streams: which images arrive when, and of which classes."""
