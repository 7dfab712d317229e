"""Small sets as clients make and upload them, and as the server checks and unites them."""

from collections.abc import Iterable

from distill.condenser import Condenser, Task, condense, even_counts
from distill.images import LabelledImages
from distill.pullback import Weights
from distill.synthetic import SyntheticSet
from fedcl.federated.base import IMAGES, LocalTask, Records, Upload, World
from fedcl.wire import check_images, pack_images, unpack_images


def made(
    method: Condenser, task: LocalTask, ipc: int, seed: int, given: Weights | None = None
) -> Records:
    """Returns a client's small set as it is sent.

    Args:
        method: Makes it.
        task: The client's round.
        ipc: Images of each class that the client has; fewer where it has fewer real ones.
        seed: Names the random streams.
        given: A network that the set is to be good for, where the method takes one.
    """
    counts = even_counts(task.data, ipc)
    networks = [] if given is None else [given]
    wanted = Task(task.data, counts, task.world.normalisation, seed, networks)
    return {IMAGES: pack_images(condense(method, wanted))}


def check_small_set(upload: Upload, world: World, ipc: int) -> None:
    """Refuses all but one set of the world's images and classes, at most ``ipc`` of a class.

    Raises:
        BadUploadError: Saying which rule is broken.
    """
    upload.check_names(IMAGES)
    check_images(upload.records[IMAGES], world.image_shape, world.num_classes, ipc)


def union(uploads: Iterable[Upload], world: World) -> SyntheticSet:
    """Returns the union of checked sets, ordered by client."""
    parts = [unpack_images(upload.records[IMAGES], world.normalisation) for upload in uploads]
    return SyntheticSet(LabelledImages.union(parts), world.normalisation, "real")
