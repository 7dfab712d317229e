"""What a script of Avalanche's imports: a storage policy, and the methods by their names.

Nothing here is imported by the command line, which imports Avalanche late.
"""

from typing import cast

from distill.condenser import Condenser
from distill.images import Normalisation
from experiments.build import plan
from experiments.scenarios.distillation import Distillation
from fedcl.continual.avalanche import CondensedBuffer

__all__ = ["CondensedBuffer", "Normalisation", "method"]


def method(name: str, *words: str) -> Condenser:
    """Returns what ``method=name`` means on the command line.

    Args:
        name: As ``fedcl list methods`` has it.
        words: Further words of ``fedcl distill``, such as ``method.iterations=300``.

    Raises:
        CommandError: If the words don't compose, or a value breaks its rule.
    """
    scenario = cast(Distillation, plan("distillation", [f"method={name}", *words]).scenario)
    return scenario.method
