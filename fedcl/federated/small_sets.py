"""Small sets as clients make and upload them, and as the server checks and unites them."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch

from distill.condenser import Condenser, Task, even_counts
from distill.coresets import Noise
from distill.images import LabelledImages
from distill.pullback import Weights
from distill.rng import derive, subseed
from distill.synthetic import Origin, SyntheticSet
from distill.work import condensing
from fedcl.federated.base import (
    FROM_REAL,
    IMAGES,
    FederatedMethod,
    LocalTask,
    Records,
    Sketch,
    Upload,
    World,
)
from fedcl.federated.forms import Form


class Distilling(FederatedMethod):
    """A method whose clients make a small set each, and upload it.

    Attributes:
        method: Makes the small sets.
        ipc: Images per class and client, >= 1, or the bytes of as many.
    """

    method: Condenser
    ipc: int

    @property
    @abstractmethod
    def form(self) -> Form:
        """What the small sets are made of on their way."""

    @abstractmethod
    def wanted(self, task: LocalTask) -> Task:
        """Returns what a client makes small in its round, and how small."""

    def local_update(self, task: LocalTask) -> Records:
        """Returns the client's small set."""
        return noted(task, task.condense(self.method, self.wanted(task)), self.form)

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns a set of the same size, and the making of the set."""
        wanted = self.wanted(task)
        work = condensing("making small sets", self.method, wanted)
        return Sketch(noted(task, self.form.sketch(wanted), self.form), [work])


def check_without_real(method: Condenser) -> None:
    """Refuses a method that starts from real images, where a server without any makes the set.

    Raises:
        ValueError: If it does.
    """
    start = getattr(method, "start", None)
    if start is not None and not isinstance(start, Noise):
        raise ValueError(
            "start must be noise where a server without real images makes the set, got "
            f"{type(start).__name__.lower()}"
        )


def sends_pixels(method: FederatedMethod) -> bool:
    """Returns whether clients upload small sets, and nothing else, whose images are pixels."""
    return isinstance(method, Distilling) and method.method.makes_pixels


def noted(task: LocalTask, small: SyntheticSet, form: Form) -> Records:
    """Returns a small set as it is sent, and notes whether it started from real images."""
    task.notes[FROM_REAL] = int(small.origin == "real")
    return {IMAGES: form.pack(small)}


def wanted_by(task: LocalTask, ipc: int, *names: str | int, given: Sequence[Weights] = ()) -> Task:
    """Returns the task of a client; all clients see the same fresh networks.

    Args:
        task: The client's round.
        ipc: Images of each class that the client has; fewer where it has fewer real ones.
        names: Of what the set is for, which tell its random streams from those of others.
        given: Networks that the set is to be good for, where the method takes them.
    """
    return Task(
        task.data,
        even_counts(task.data, ipc),
        task.world.normalisation,
        subseed(task.world.seed, "client", task.client, *names),
        given,
        subseed(task.world.seed, "clients' networks", *names),
    )


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
    images = LabelledImages(noise, labels, world.num_classes).to(world.device)
    return Task(images, images.counts, world.normalisation, seed, given)


def check_small_set(upload: Upload, world: World, form: Form, ipc: int) -> None:
    """Refuses all but one set of the world's images and classes, that ``ipc`` of each pay for.

    Raises:
        BadUploadError: Saying which rule is broken.
    """
    upload.check_names(IMAGES)
    form.check(upload.records[IMAGES], world, ipc)


def union(uploads: Iterable[Upload], world: World, form: Form) -> SyntheticSet:
    """Returns the union of checked sets, ordered by client; real if any client says so of its."""
    parts = list[LabelledImages]()
    origin: Origin = "noise"
    for upload in uploads:
        parts.append(form.read(upload.records[IMAGES], world))
        origin = "real" if upload.from_real else origin
    return SyntheticSet(LabelledImages.union(form.alike(parts)), world.normalisation, origin)
