"""What a memory adds to a training step: half a batch drawn from it, beside a batch of the stream.

Both sides take as many steps on as many images, through the same loop; on one, every batch is of
the stream, on the other, half of it is drawn from a memory of 100 images.

    python -m benchmarks.replay_step [--dataset fashion_mnist] [--width 32]
"""

import copy
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from benchmarks.setting import compare, parser, status
from distill.images import LabelledImages
from experiments.build import plan
from experiments.errors import CommandError
from experiments.scenarios.continual import ContinualRun
from fedcl.continual.avalanche_loop import Course, follow
from fedcl.continual.base import Lesson, plain
from fedcl.continual.learner import Learner


def main(words: Sequence[str] | None = None) -> int:
    """Prints what an experience takes with a memory and without; returns the exit status."""
    takes = parser("a step with a memory beside a step without", 5, folder=False)
    takes.add_argument("--dataset", default="fashion_mnist")
    takes.add_argument("--width", type=int, default=32, help="of the ConvNet")
    takes.add_argument("--images", type=int, default=960, help="in an experience")
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints the timings."""
    torch.set_num_threads(args.threads)
    words = [f"dataset={args.dataset}", f"dataset.train_images={5 * args.images}"]
    words += [f"network.width={args.width}", "continual=replay", "method=random"]
    words += ["buffer.images=100", "training.epochs=1"]
    print(f"an experience of: fedcl continual {' '.join(words)}")
    learner = prepared(words)
    print(compare(args, ("no memory", experience(learner, False)), experience(learner, True)))


def prepared(words: Sequence[str]) -> Learner:
    """Returns the run's learner with a memory of its first experience.

    Raises:
        CommandError: If the words are wrong, or the data can't be had.
    """
    try:
        run = plan("continual", words).scenario.prepare("cpu")
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not isinstance(run, ContinualRun):
        raise TypeError(f"the scenario must prepare a stream, got {type(run).__name__}")
    run.learner.learn(0)
    return run.learner


def experience(learner: Learner, memory: bool) -> Callable[[], int]:
    """Returns what trains a copy of the network on the second experience; it returns the images.

    Args:
        learner: Has learnt the first experience.
        memory: Whether half of every batch comes from the memory, and half as many images of
            the stream; without it, batches are of the stream and twice as large.
    """
    data, recipe = learner.setting.experiences[1].train.images(), learner.setting.recipe
    held = learner.memory.data() if memory and learner.memory else _none(data)
    if memory:
        data = data.rows(torch.arange(len(data) // 2))
    else:
        recipe = replace(recipe, batch=2 * recipe.batch)
    course = Course(Lesson(plain), recipe, held, None, None, 1)
    return lambda: follow(copy.deepcopy(learner.network), data, course, 0)


def _none(data: LabelledImages) -> LabelledImages:
    return data.rows(torch.zeros(0, dtype=torch.int64))


if __name__ == "__main__":
    sys.exit(main())
