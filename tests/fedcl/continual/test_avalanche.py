"""The storage policy works in Avalanche's own strategies, as their own policies do."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, final

import pytest
import torch
from avalanche.benchmarks import (
    class_incremental_benchmark,
    nc_benchmark,
    task_incremental_benchmark,
)
from avalanche.benchmarks.scenarios import split_online_stream
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.models import MTSimpleMLP, SCRModel, SimpleMLP
from avalanche.training import ER_ACE, SCR, Naive
from avalanche.training.plugins import (
    EvaluationPlugin,
    GDumbPlugin,
    MIRPlugin,
    ReplayPlugin,
    SupervisedPlugin,
)
from torch import nn

from distill.condenser import Condenser, Task, condense, even_counts
from distill.coresets import KMeans
from distill.images import LabelledImages, Normalisation
from distill.rng import subseed
from fedcl.continual.avalanche import CondensedBuffer, ConstantRatioReplay, Tensors, images_of
from fedcl.memory import Budget, Memory
from fedcl.stores.float32 import Float32

AS_THEY_COME = Normalisation([0.0], [1.0])


def pixels(num_classes: int = 6, each: int = 8) -> LabelledImages:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(num_classes).repeat(each)
    return LabelledImages(torch.rand(len(labels), 1, 8, 8, generator=rng), labels, num_classes)


def split(data: LabelledImages, **words) -> Any:
    """Two classes an experience, in order."""
    words = {"task_labels": False, "shuffle": False, "fixed_class_order": list(range(6))} | words
    return nc_benchmark(Tensors(data), Tensors(data), n_experiences=3, **words)


def newer(data: LabelledImages) -> Any:
    """The same stream by Avalanche's newer builder, which gives no task labels."""
    data = as_classification_dataset(Tensors(data))
    parts = {"train": data, "test": data}
    return class_incremental_benchmark(parts, num_experiences=3, class_order=list(range(6)))


@final
@dataclass(frozen=True)
class Noted(Condenser):
    """K-means that notes for which classes it was asked."""

    asked: list[list[int]] = field(default_factory=list)
    makes_pixels: bool = True

    def steps(self, task: Task, state=None) -> Iterator[Any]:
        self.asked.append(task.classes)
        yield from KMeans().steps(task, state)


@pytest.fixture
def common() -> dict[str, Any]:
    """What every strategy is given but its model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No loggers specified")
        evaluator = EvaluationPlugin(loggers=[])
    return {"train_mb_size": 4, "eval_mb_size": 16, "evaluator": evaluator}


def mlp(model: nn.Module | None = None) -> dict[str, Any]:
    model = model or SimpleMLP(num_classes=6, input_size=64, hidden_size=8)
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}


def replay(policy: CondensedBuffer, common: dict[str, Any]) -> Naive:
    return Naive(plugins=[ReplayPlugin(12, storage_policy=policy)], **mlp(), **common)


def gdumb(policy: CondensedBuffer, common: dict[str, Any]) -> Naive:
    plugin = GDumbPlugin(12)
    plugin.storage_policy = policy
    return Naive(plugins=[plugin], **mlp(), **common)


def er_ace(policy: CondensedBuffer, common: dict[str, Any]) -> ER_ACE:
    strategy = ER_ACE(mem_size=12, batch_size_mem=4, **mlp(), **common)
    strategy.storage_policy = policy
    return strategy


def mir(policy: CondensedBuffer, common: dict[str, Any]) -> Naive:
    plugin = MIRPlugin(batch_size_mem=2, mem_size=12, subsample=4)
    plugin.storage_policy = policy
    return Naive(plugins=[plugin], **mlp(), **common)


def scr(policy: CondensedBuffer, common: dict[str, Any]) -> SCR:
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    model = SCRModel(feature_extractor=body, projection=nn.Linear(8, 4))
    strategy = SCR(mem_size=12, batch_size_mem=4, **mlp(model), **common)
    strategy.replay_plugin.storage_policy = policy
    return strategy


def held(policy: CondensedBuffer) -> tuple[torch.Tensor, list[int], list[int]]:
    """The images, labels and task labels that Avalanche's loaders see."""
    images, labels, tasks = zip(*policy.buffer, strict=True)
    return torch.stack(images), list(labels), list(tasks)


@pytest.mark.parametrize("strategy", [replay, gdumb, er_ace, mir, scr], ids=lambda s: s.__name__)
def test_the_same_policy_works_in_every_stock_strategy(strategy: Callable[..., Any], common):
    data, method = pixels(), Noted()
    empty = Memory.empty(Budget(12, None, "fixed", Float32()), (1, 8, 8), 6, AS_THEY_COME)
    policy = CondensedBuffer(empty, method, seed=0)
    trained, filters = strategy(policy, common), list(warnings.filters)
    expected = []
    for index, experience in enumerate(split(data).train_stream):
        trained.train(experience)
        real = data.rows(data.labels // 2 == index)
        seed = subseed(0, "memory", index)
        expected.append(condense(method, Task(real, even_counts(real, 2), AS_THEY_COME, seed)).data)
    images, labels, tasks = held(policy)
    assert images.equal(torch.cat([part.images for part in expected]))
    assert labels == torch.cat([part.labels for part in expected]).tolist()
    assert tasks == [0] * 12
    # Once by the policy and once by this test, for each experience.
    assert method.asked == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]
    assert warnings.filters == filters
    trained.eval(split(data).test_stream)


def test_a_policy_made_for_a_benchmark_stays_in_its_budget():
    benchmark = split(pixels())
    policy = CondensedBuffer.of(benchmark, KMeans(), images=7)
    assert policy.max_size == 7
    sizes = []
    for experience in benchmark.train_stream:
        policy.post_adapt(None, experience)
        sizes.append([len(policy.buffer_groups[label].buffer) for label in policy.buffer_groups])
    assert sizes == [[4, 3], [2, 2, 2, 1], [2, 1, 1, 1, 1, 1]]


def test_images_of_an_online_stream_wait_until_so_many_do(common):
    # 48 images, four at a time, learnt ten by ten, the tenth in the middle of a batch.
    benchmark = split(pixels())
    policy = CondensedBuffer.of(benchmark, KMeans(), images=12, staged=10)
    strategy = replay(policy, common)
    held = policy.memory
    for index, part in enumerate(split_online_stream(benchmark.train_stream, 4)):
        strategy.train(part)
        real = images_of(part.dataset, 6)
        held = held.streamed(real, KMeans(), subseed(0, "memory", index))
        assert policy.memory.data().images.equal(held.data().images)
        assert policy.memory.bytes == (len(held) + len(held.stage)) * 65
        came = 4 * (index + 1)
        assert (int(policy.memory.seen.sum()), len(policy.memory.stage)) == (
            came // 10 * 10,
            came % 10,
        )


def test_images_come_back_as_evaluation_sees_them():
    # One image a class and room for one: k-means keeps it, to the nearest of 256 grey levels.
    data = pixels(each=1)
    narrow = Normalisation([0.5], [0.25])
    normalised = LabelledImages((data.images - 0.5) / 0.25, data.labels, 6)
    for seen, map_ in ((data, None), (normalised, narrow)):
        benchmark = split(seen, train_transform=torch.zeros_like)
        policy = CondensedBuffer.of(benchmark, KMeans(), images=6, normalisation=map_)
        for experience in benchmark.train_stream:
            policy.post_adapt(None, experience)
        rounding = 0.5 / 255 / (map_ or AS_THEY_COME).std[0]
        assert (held(policy)[0] - seen.images).abs().max() <= rounding + 1e-6


@pytest.mark.parametrize("heads", ["one head", "a head a task"])
def test_each_class_keeps_its_task_label(heads, common):
    benchmark, model = task_incremental_benchmark(newer(pixels())), None
    if heads == "a head a task":  # whose masks take what the older builder gives
        benchmark, model = split(pixels(), task_labels=True), MTSimpleMLP(64, 8)
    policy = CondensedBuffer.of(benchmark, KMeans(), images=12)
    strategy = Naive(plugins=[ReplayPlugin(12, storage_policy=policy)], **mlp(model), **common)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert held(policy)[1:] == (
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2],
    )


@final
class Sizes(SupervisedPlugin):
    """Notes the images in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def before_forward(self, strategy, **_) -> None:
        self.seen.append(len(strategy.mb_x))


def test_stock_replay_brings_partial_batches(common):
    # Sixteen images an experience in batches of 4; the memory's 6 come as 4 and 2 by turns.
    benchmark, sizes = split(pixels()), Sizes()
    policy = CondensedBuffer.of(benchmark, KMeans(), images=6)
    strategy = Naive(plugins=[ReplayPlugin(6, storage_policy=policy), sizes], **mlp(), **common)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert sizes.seen == [4, 4, 4, 4, 8, 6, 8, 6, 8, 6, 8, 6]


def test_replay_in_a_constant_ratio_brings_as_many_memory_images_as_the_batch_has(common):
    # The same stream and memory: 4 of the stream, and from the second experience on 4 of the 6.
    benchmark, sizes = split(pixels()), Sizes()
    policy = CondensedBuffer.of(benchmark, KMeans(), images=6)
    plugins = [ConstantRatioReplay(policy, seed=0), sizes]
    strategy = Naive(plugins=plugins, **mlp(), **common)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    assert sizes.seen == [4] * 4 + [8] * 8
    assert sorted(policy.memory.kept) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("images", "range_"),
    [
        (Normalisation([0.5], [0.25])(torch.zeros(6, 1, 8, 8)), "-2 to -2"),
        (torch.full((6, 1, 8, 8), 200, dtype=torch.uint8), "200 to 200"),
    ],
    ids=["normalised", "uint8"],
)
def test_images_outside_of_0_and_1_are_refused_unless_the_map_is_given(images, range_):
    benchmark = split(LabelledImages(images, torch.arange(6), 6))
    with pytest.raises(ValueError, match=rf"images must be in \[0, 1\] .* got {range_} after it"):
        CondensedBuffer.of(benchmark, KMeans(), images=6)


def test_a_budget_below_the_classes_is_refused():
    with pytest.raises(ValueError, match="an image of each of 6 classes, got 5 images"):
        CondensedBuffer.of(split(pixels()), KMeans(), images=5)


def test_a_method_that_keeps_no_pixels_is_refused():
    with pytest.raises(ValueError, match="method must keep its images as pixels"):
        CondensedBuffer.of(split(pixels()), Noted(makes_pixels=False), images=6)


def test_a_class_of_several_tasks_is_refused():
    again = split(pixels(), task_labels=True, class_ids_from_zero_in_each_exp=True)
    with pytest.raises(ValueError, match=r"class 0 must have one task label, .* got 0 and 1"):
        CondensedBuffer.of(again, KMeans(), images=6)


def test_a_benchmark_without_task_labels_is_refused():
    with pytest.raises(ValueError, match="experiences must have task labels; take nc_benchmark"):
        CondensedBuffer.of(newer(pixels()), KMeans(), images=6)


def test_a_policy_keeps_its_size():
    policy = CondensedBuffer.of(split(pixels()), KMeans(), images=6)
    policy.resize(None, 6)
    with pytest.raises(ValueError, match="new_size must be 6, the budget, got 5"):
        policy.resize(None, 5)
