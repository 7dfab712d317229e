"""What a defence is: a judgement on the small sets of one round, all at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from distill.images import LabelledImages
from fedcl.federated.base import ServerTask


@final
@dataclass(frozen=True)
class Evidence:
    """What the server knows when it judges.

    Attributes:
        sets: Each client's checked small set, normalised.
        server: The server's task as the round began.
        validation: The server's own normalised images; none: empty.
    """

    sets: Mapping[int, LabelledImages]
    server: ServerTask
    validation: LabelledImages


class Defence(ABC):
    """A filter of small sets. Subclasses are final frozen dataclasses.

    Attributes:
        needs_validation: Whether the server must have images of its own.
        needs_spread: Whether it judges by how a client's images of a class differ.
    """

    needs_validation: ClassVar[bool] = False
    needs_spread: ClassVar[bool] = False

    def check_uploads(self, uploads: int) -> None:  # noqa: B027  most judge any number
        """Refuses a round of too few uploads to judge.

        Args:
            uploads: How many come at most.

        Raises:
            ValueError: If they are too few.
        """

    @abstractmethod
    def rejected(self, evidence: Evidence) -> Mapping[int, str]:
        """Returns why a client's set is set aside, for those that are."""
