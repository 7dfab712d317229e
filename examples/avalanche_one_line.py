"""A script of Avalanche's, and the one line that makes it replay distilled images.

Digits come in five experiences of two classes; a small network learns them one after the other and
replays 20 images of what it has seen: random ones, then distilled ones.

    python examples/avalanche_one_line.py          # half a minute
    python examples/avalanche_one_line.py kmeans   # or another method that keeps pixels
"""

import statistics
import sys
from typing import Any

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.models import SimpleMLP
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from experiments.avalanche import CondensedBuffer, method


def main(*words: str) -> None:
    """Prints the average accuracy at the end of the stream with either policy."""
    benchmark = split_digits()
    random = ClassBalancedBuffer(max_size=20)
    distilled = CondensedBuffer.of(benchmark, method(*words), images=20)  # the line
    print(f"random images     {average_accuracy(benchmark, random):.3f}")
    print(f"distilled images  {average_accuracy(benchmark, distilled):.3f}")


def split_digits() -> Any:
    """Returns scikit-learn's digits, pixels in [0, 1], in five experiences of two classes."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = (TensorDataset(images[part], labels[part]) for part in rows.split(1400))
    for part in (train, test):
        part.targets = part.tensors[1].tolist()  # Avalanche asks for them
    return nc_benchmark(train, test, n_experiences=5, task_labels=False, seed=0)


def average_accuracy(benchmark: Any, storage_policy: Any) -> float:
    """Trains with replay and returns the mean accuracy over experiences."""
    torch.manual_seed(0)
    model = SimpleMLP(num_classes=10, input_size=64)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_mb_size=16,
        train_epochs=3,
        eval_mb_size=256,
        plugins=[ReplayPlugin(mem_size=20, storage_policy=storage_policy)],
        evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
    return statistics.mean(strategy.eval(benchmark.test_stream).values())


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["dm", "distiller=mlp", "method.iterations=100"]))
