"""Where Avalanche has the loss of a method, the two agree, but for what is said here."""

import warnings

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from distill.coresets import Random
from fedcl.continual.er_ace import ERACE
from fedcl.continual.icarl import ICaRL, copied
from fedcl.continual.scr import SCR
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32

BUDGET = Budget(8, None, "fixed", Float32())


@pytest.fixture(scope="module")
def losses():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from avalanche.training import losses
        from avalanche.training.regularization import ACECriterion
    return {
        "er_ace": ACECriterion(),
        "scr": losses.SCRLoss(temperature=0.1, base_temperature=0.1),
        "icarl": losses.ICaRLLossPlugin(),
    }


def test_er_ace_where_stream_and_memory_are_as_many(losses, moment, network, batch):
    both = batch([2, 3, 3], [0, 1, 2])
    logits, labels = network(both.images), both.labels
    stock = losses["er_ace"](logits[:3], labels[:3], logits[3:], labels[3:])
    torch.testing.assert_close(ERACE(Random(), BUDGET).lesson(moment()).loss(network, both), stock)


def test_scr(losses, moment, network, batch):
    both = batch([2, 3, 3], [0, 1, 1])
    views = [F.normalize(network(images)) for images in (both.plain, both.images)]
    stock = losses["scr"](torch.stack(views, 1), both.labels)
    lesson = SCR(Random(), BUDGET, memory_batch=3, temperature=0.1).lesson(moment())
    torch.testing.assert_close(lesson.loss(network, both), stock)


def test_icarl_where_all_classes_were_seen_and_the_stock_loss_is_a_mean(
    losses, moment, network, batch
):
    both, left = batch([2, 3], [0, 1]), copied(network)
    losses["icarl"].old_classes = [0, 1]
    losses["icarl"].old_logits = network(both.images).detach()
    with torch.no_grad():
        network.classifier.bias += torch.tensor([0.5, -0.5, 1.0, 0.0])
    stock = losses["icarl"](network(both.images), both.labels)
    loss = ICaRL(Random(), BUDGET).lesson(moment(left=left)).loss(network, both)
    torch.testing.assert_close(loss, 4 * stock)
