"""What a script of Avalanche's imports: a storage policy, and the methods by their names.

Nothing here is imported by the command line, which imports Avalanche late.
"""

from distill.images import Normalisation
from experiments.methods import method
from fedcl.continual.avalanche import CondensedBuffer

__all__ = ["CondensedBuffer", "Normalisation", "method"]
