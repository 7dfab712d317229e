"""Averaging of weights: the server half that FedAvg and its kin share."""

from collections.abc import Sequence

import numpy as np
from flwr.app import Array, ArrayRecord

from fedcl.federated.base import Upload


def weighted_mean(uploads: Sequence[Upload]) -> ArrayRecord:
    """Returns the mean of the clients' arrays, each weighted by its images.

    Sums are taken in float64, in the order given; each array keeps its type.
    """
    total = sum(upload.examples for upload in uploads)
    mean = {}
    for name, array in uploads[0].arrays.items():
        first = array.numpy()
        summed = np.zeros(first.shape, np.float64)
        for upload in uploads:
            summed += upload.arrays[name].numpy() * (upload.examples / total)
        mean[name] = Array(summed.astype(first.dtype))
    return ArrayRecord(mean)
