"""Memories of earlier classes, limited in images or in bytes."""

from fedcl.memory.budget import Budget
from fedcl.memory.memory import Memory

__all__ = ["Budget", "Memory"]
