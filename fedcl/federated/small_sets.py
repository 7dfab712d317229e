"""Small sets as clients make and upload them, and as the server checks and unites them."""

from collections.abc import Iterable, Sequence

import torch

from distill.condenser import Condenser, Task, condense, even_counts
from distill.coresets import Random
from distill.images import LabelledImages
from distill.pullback import Weights
from distill.rng import derive
from distill.synthetic import Origin, SyntheticSet
from distill.work import condensing
from fedcl.federated.base import FROM_REAL, IMAGES, LocalTask, Records, Sketch, Upload, World
from fedcl.wire import check_images, pack_images, unpack_images


def made(
    method: Condenser, task: LocalTask, ipc: int, seed: int, given: Weights | None = None
) -> Records:
    """Returns a client's small set as it is sent, and notes whether it started from real images.

    Args:
        method: Makes it.
        task: The client's round.
        ipc: Images of each class that the client has; fewer where it has fewer real ones.
        seed: Names the random streams.
        given: A network that the set is to be good for, where the method takes one.
    """
    return _noted(task, condense(method, _wanted(task, ipc, seed, given)))


def sketched_set(
    method: Condenser, task: LocalTask, ipc: int, given: Weights | None = None
) -> Sketch:
    """Returns :func:`made` without its work: random images of the same number, and the making."""
    wanted = _wanted(task, ipc, task.world.seed, given)
    records = _noted(task, condense(Random(), wanted))
    return Sketch(records, [condensing("making small sets", method, wanted)])


def _noted(task: LocalTask, small: SyntheticSet) -> Records:
    task.notes[FROM_REAL] = int(small.origin == "real")
    return {IMAGES: pack_images(small)}


def _wanted(task: LocalTask, ipc: int, seed: int, given: Weights | None) -> Task:
    networks = [] if given is None else [given]
    counts = even_counts(task.data, ipc)
    return Task(task.data, counts, task.world.normalisation, seed, networks)


def without_images(world: World, ipc: int, seed: int, given: Sequence[Weights] = ()) -> Task:
    """Returns the task of a server, which has no image of anybody: noise stands for them.

    Args:
        world: What was agreed on.
        ipc: Images wanted of each class.
        seed: Names the random streams, the noise's too.
        given: Networks that the set is to be good for, oldest first.
    """
    labels = torch.arange(world.num_classes).repeat_interleave(ipc)
    rng = derive(seed, "noise for images")
    noise = torch.randn(len(labels), *world.image_shape, generator=rng)
    images = LabelledImages(noise, labels, world.num_classes)
    return Task(images, images.counts, world.normalisation, seed, given)


def check_small_set(upload: Upload, world: World, ipc: int) -> None:
    """Refuses all but one set of the world's images and classes, at most ``ipc`` of a class.

    Raises:
        BadUploadError: Saying which rule is broken.
    """
    upload.check_names(IMAGES)
    check_images(upload.records[IMAGES], world.image_shape, world.num_classes, ipc)


def union(uploads: Iterable[Upload], world: World) -> SyntheticSet:
    """Returns the union of checked sets, ordered by client; real if any client says so of its."""
    parts = list[LabelledImages]()
    origin: Origin = "noise"
    for upload in uploads:
        parts.append(unpack_images(upload.records[IMAGES], world.normalisation))
        origin = "real" if upload.from_real else origin
    return SyntheticSet(LabelledImages.union(parts), world.normalisation, origin)
