"""How many equal steps a client makes in a round, for methods whose equations count them."""

import math

from distill.training import Recipe


def check_equal_steps(local: Recipe) -> None:
    """Refuses a recipe whose steps are not those of plain descent at one step size.

    Raises:
        ValueError: Naming what must change.
    """
    if local.optimiser != "sgd":
        raise ValueError(
            f"training.optimiser must be sgd for a method that counts equal steps, "
            f"got {local.optimiser}"
        )
    if local.clip is not None:
        raise ValueError(
            f"training.clip must be null for a method that counts equal steps, got {local.clip}"
        )
    if local.decay_after is not None or local.schedule is not None:
        raise ValueError(
            "training.decay_after and training.schedule must be null for a method that counts "
            "equal steps"
        )


def steps(local: Recipe, images: int) -> int:
    """Returns the steps of one round on so many images."""
    return local.epochs * math.ceil(images / local.batch)


def carried(local: Recipe, images: int) -> float:
    r"""Returns how far one round carries a constant gradient in the end.

    That is :math:`K \eta` for K steps of size :math:`\eta`, and :math:`K \eta / (1 - \rho)` with
    momentum :math:`\rho`, once it has come up to speed.
    """
    return steps(local, images) * local.learning_rate / (1 - local.momentum)
