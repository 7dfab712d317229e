"""The code that distilling starts from: encoded images that a condenser makes."""

import torch
from torch import Tensor

from distill.condenser import Condenser, Task, condense
from distill.images import LabelledImages
from distill.parameterisations.base import Code, Parameterisation, Parameters
from distill.synthetic import Origin


def first_code(
    parameterisation: Parameterisation, task: Task, start: Condenser, label: int = 0
) -> tuple[Code, Origin]:
    """Returns the code to start from, and where its images come from.

    It has as many rows as the numbers of the task's images pay for. Where a class has fewer
    real images than that, its start images are taken several times.

    Args:
        parameterisation: How the images are kept.
        task: The real images, and how many pixel images of each class pay.
        start: Makes the images to start from.
        label: Numbers of the label of one image, which count as well; 0: a hard label.

    Raises:
        ValueError: If the numbers don't pay for a row of every class, or decoders put out
            something else than such images.
    """
    rows, learned = paid(parameterisation, task, label)  # refused before a generator is fitted
    decoding = {**learned, **parameterisation.decoding(task.real, task.seed, [False])}
    counts = rows.minimum(task.real.counts.cpu())
    small = condense(start, Task(task.real, counts, task.normalisation, task.seed))
    code = parameterisation.encode(decoding, _repeated(small.data, counts, rows), task.seed)
    parameterisation.source.project_(code.parameters, task.normalisation)
    _check_output(code)
    return code, small.origin


def paid(
    parameterisation: Parameterisation, task: Task, label: int = 0
) -> tuple[Tensor, Parameters]:
    """Returns the rows of each class that a task pays for, and what learned decoders start from.

    Args:
        parameterisation: How the images are kept.
        task: As of :func:`first_code`.
        label: Likewise.

    Raises:
        TooFewNumbersError: If the numbers don't pay for a row of every class.
    """
    learned = parameterisation.decoding(task.real, task.seed, [True])
    paying = Code(parameterisation, learned, task.counts, task.real.image_shape)
    return parameterisation.rows(paying, label, task.withheld), learned


@torch.no_grad()
def _check_output(code: Code) -> None:
    made = tuple(code.decode(torch.arange(1)).shape[1:])
    if made != tuple(code.image_shape):
        raise ValueError(
            f"parameterisation must decode to images of shape {tuple(code.image_shape)}, got "
            f"{made}; change its last decoder, or take parameterisation=pixels"
        )


def _repeated(images: LabelledImages, counts: Tensor, wanted: Tensor) -> LabelledImages:
    index = [
        torch.arange(rows) % count + offset
        for count, rows, offset in zip(
            counts.tolist(), wanted.tolist(), (counts.cumsum(0) - counts).tolist(), strict=True
        )
        if rows > 0
    ]
    return images.rows(torch.cat(index))
