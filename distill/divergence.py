r"""When distilling has gone astray: its loss is no number, or far above what it was at first.

The loss :math:`L_t` of step :math:`t` stops a run if it isn't finite, or if

.. math:: L_t > b \, \max(1, L_1) ,

where :math:`b` is the bound. The 1 is for sets that begin next to a loss of zero, as copies
of all real images do: any step leaves it by a large factor, and nothing is wrong.
"""

import math
from collections.abc import Mapping

from torch import Tensor

LEAST = 1.0  # the usual loss at least
BOUND = 1000.0  # ours: on digits, over some dozens of steps, every preset stays below 7


def usual_loss(loss: float, step: int, usual: float, bound: float) -> float:
    """Returns the usual loss, which is the first step's, 1 at least.

    Args:
        loss: That of this step.
        step: Its number, from 1.
        usual: What the step before returned; ``LEAST`` at the first.
        bound: Times ``usual`` that a loss may reach after the first step, >= 1.

    Raises:
        FloatingPointError: If the run has diverged.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss must stay finite, got {loss} at step {step}; lower optimiser.learning_rate"
        )
    if step == 1:
        return max(LEAST, loss)
    if loss > bound * usual:
        raise FloatingPointError(
            f"the loss must stay within {bound:g} times what it was at first ({usual:.4g}), got "
            f"{loss:.4g} at step {step}; lower optimiser.learning_rate, or raise method.loss_bound"
        )
    return usual


def finite(parameters: Mapping[str, Tensor], step: int) -> None:
    """Refuses a set with a number that isn't finite, which no later step would mend.

    Args:
        parameters: The set's numbers, by name.
        step: The number of the step that moved them, from 1.

    Raises:
        FloatingPointError: If there is one.
    """
    for name, numbers in parameters.items():
        if not numbers.isfinite().all():
            raise FloatingPointError(
                f"the set's {name} must stay finite, got NaN or infinity from step {step}; "
                "lower optimiser.learning_rate"
            )
