"""Continual methods on Avalanche, and the memory that they replay from."""
