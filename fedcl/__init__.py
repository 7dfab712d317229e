"""Federated and continual learning on distilled data: Flower apps and Avalanche strategies."""
