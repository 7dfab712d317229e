"""How much a memory may hold, how it is divided, and what can be kept in it."""

from dataclasses import dataclass
from typing import Literal, final

from distill.checks import one_of, whole
from distill.condenser import Condenser
from distill.labels import learns_distributions
from distill.networks import ImageShape
from fedcl.stores.base import Store

Allocation = Literal["adaptive", "fixed"]
Shrink = Literal["redistil", "prefix"]
Naming = Literal["hard", "soft"]


@final
@dataclass(frozen=True)
class Budget:
    """How much a memory may hold; either ``images`` or ``bytes`` is given.

    Attributes:
        images: Images in all, >= 1, or None.
        bytes: Bytes in all, labels included, >= 1, or None.
        allocation: ``fixed`` reserves an equal share for every class of the task from the
            start; ``adaptive`` divides all of it in equal shares among the classes seen so far,
            of which one that has fewer images leaves some empty.
        store: How images are kept.
        shrink: How stored images become fewer: ``redistil`` makes them small again by the
            memory's method; ``prefix`` keeps the first of them, as they are.
        staged: Images of a stream that wait, as uint8 and beside the rest, until the memory
            learns them together, >= 1; None: an experience's images are at hand until it ends.
        labels: What is kept of an image's label: ``hard``, its class; ``soft``, the distribution
            over all classes that the method learned as well, in half precision.
    """

    images: int | None
    bytes: int | None
    allocation: Allocation
    store: Store
    shrink: Shrink = "redistil"
    staged: int | None = None
    labels: Naming = "hard"

    def __post_init__(self) -> None:
        if (self.images is None) == (self.bytes is None):
            raise ValueError(
                "exactly one of buffer.images and buffer.bytes must be given, "
                f"got images={self.images} and bytes={self.bytes}"
            )
        limits = {"images": self.images, "bytes": self.bytes, "staged": self.staged}
        for name, value in limits.items():
            if value is not None:
                whole(f"buffer.{name}", value, 1)
        one_of("buffer.allocation", self.allocation, ("adaptive", "fixed"))
        one_of("buffer.shrink", self.shrink, ("redistil", "prefix"))
        one_of("buffer.labels", self.labels, ("hard", "soft"))

    def check_method(self, method: Condenser) -> None:
        """Refuses a method whose images are decoded, where single ones would be exchanged.

        Raises:
            ValueError: If they would, if the store keeps images alone, or if there are no
                distributions to keep.
        """
        if self.labels == "soft" and not learns_distributions(method):
            raise ValueError(
                "buffer.labels must be hard with a method that learns no distributions; "
                "take method=datm, or labels=soft with one that trains on its set"
            )
        if method.makes_pixels:
            return
        if self.allocation != "fixed" or self.staged is not None or not self.store.numbers:
            raise ValueError(
                "a method whose images are decoded must get buffer.allocation=fixed, "
                "buffer.staged=null and storage=uint8 or float32, since its images share numbers "
                "and aren't exchanged one by one, got "
                f"{self.allocation}, {self.staged} and {type(self.store).__name__}"
            )

    def check_unstaged(self, where: str) -> None:
        """Refuses a stage.

        Args:
            where: Of what it would be, as "where clients keep their images".

        Raises:
            ValueError: If there is one.
        """
        if self.staged is not None:
            raise ValueError(f"buffer.staged must be null {where}, got {self.staged}")

    def check_hard(self, where: str) -> None:
        """Refuses distributions.

        Args:
            where: Of what would get them, as "where classes are compared by features".

        Raises:
            ValueError: If they are kept.
        """
        if self.labels == "soft":
            raise ValueError(f"buffer.labels must be hard {where}, got soft")

    def check_lasting(self, where: str) -> None:
        """Refuses a store that makes other images of those it keeps whenever it gets new ones.

        Args:
            where: Of what it would be, as "where logits are kept with the images".

        Raises:
            ValueError: If it is one.
        """
        if not self.store.lasting:
            raise ValueError(
                f"storage must keep an image as it is {where}, got {type(self.store).__name__}; "
                "take storage=uint8, float32, jpeg or low_rank"
            )

    def capacity(self, image_shape: ImageShape, num_classes: int) -> int:
        """Returns the images that fit.

        Raises:
            ValueError: If they are fewer than the classes, so that some would have none, or the
                store doesn't take such images.
        """
        shared = self.store.sizes(image_shape)[1]
        given, capacity = f"buffer.images={self.images}", self.images or 0
        if self.bytes is not None:
            each = self.bytes_each(image_shape, num_classes)
            given = f"buffer.bytes={self.bytes}, {each} an image"
            given += f" after {shared} that all share" if shared else ""
            capacity = max(self.bytes - shared, 0) // each
        if capacity < num_classes:
            raise ValueError(
                f"the buffer must hold an image of each of {num_classes} classes, "
                f"got {capacity} images ({given})"
            )
        return capacity

    def allowed(self, image_shape: ImageShape, num_classes: int) -> int:
        """Returns the bytes that may be held, those of as many images where these are counted."""
        if self.bytes is not None:
            return self.bytes
        shared = self.store.sizes(image_shape)[1]
        return (self.images or 0) * self.bytes_each(image_shape, num_classes) + shared

    def bytes_each(self, image_shape: ImageShape, num_classes: int) -> int:
        """Returns the bytes of an image with its label, those aside that all share."""
        soft = 2 * num_classes if self.labels == "soft" else 0
        return self.store.sizes(image_shape)[0] + 1 + soft
