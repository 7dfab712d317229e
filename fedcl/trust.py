"""Who is to be trusted: clients that attack any method, and a server that filters small sets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from torch import Tensor

from distill.images import LabelledImages, Normalisation
from distill.training import score
from fedcl.attacks.base import Attack, OfOneClass, malicious
from fedcl.client_accuracy import client_counts
from fedcl.defences.base import Defence, Evidence
from fedcl.federated.base import (
    IMAGES,
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Upload,
    World,
)
from fedcl.federated.small_sets import Distilling

RARE = 2  # clients, at most, that hold a class that is called rare


@final
@dataclass(frozen=True)
class Trust:
    """An attack and a defence, either of which may be lacking.

    Attributes:
        attack: What malicious clients do.
        defence: What the server sets aside.
    """

    attack: Attack | None
    defence: Defence | None

    def check(self, method: FederatedMethod) -> None:
        """Refuses what a method without small sets can't have.

        Raises:
            ValueError: If there is something.
        """
        if isinstance(method, Distilling):
            self._check_spread(method)
            return
        if self.defence is not None:
            raise ValueError(
                "defence must be none for a method that uploads no small sets, or more "
                "than these; take one that uploads them alone: fedcl list federated"
            )
        if self.attack is not None and self.attack.small_sets:
            raise ValueError(
                "attack must work on a client's data for a method that uploads no small sets, "
                "or more than these; take attack=label_flip, poisoning or malformed"
            )

    def _check_spread(self, method: Distilling) -> None:
        if self.defence is None or not self.defence.needs_spread:
            return
        if method.ipc == 1 and method.method.makes_pixels:
            raise ValueError(
                "ipc must be >= 2 for this defence, which judges a client's mean by how its images "
                "of a class differ, got 1; take defence=leave_one_out"
            )

    def check_uploads(self, uploads: int) -> None:
        """Refuses a defence that can't judge as few uploads as a round's.

        Raises:
            ValueError: If it can't.
        """
        if self.defence is not None:
            self.defence.check_uploads(uploads)

    def check_message(self, compressed: bool) -> None:
        """Refuses an attack that is none once its arrays were compressed.

        Raises:
            ValueError: If it is one, and they are.
        """
        if compressed and self.attack is not None and not self.attack.outlives_compression:
            raise ValueError(
                "compression must be none upwards for this attack, whose flaw is lost in it"
            )

    def check_world(self, world: World, validation: LabelledImages) -> None:
        """Refuses more attackers than clients, unknown classes, and a lack of images.

        Attackers lack them where none holds the class that they attack by, and a server that
        scores on images of its own, without a validation part.

        Raises:
            ValueError: If there is something to refuse.
        """
        if self.attack is not None:
            if self.attack.clients > len(world.clients):
                raise ValueError(
                    f"attack.clients must be <= {len(world.clients)}, the number of clients, "
                    f"got {self.attack.clients}"
                )
            self.attack.wanted(world.clients[0][0], world.normalisation)
            if isinstance(self.attack, OfOneClass):
                _check_held(self.attack.source, self.attackers(world), world)
        if self.defence is not None and self.defence.needs_validation and not len(validation):
            raise ValueError(
                "dataset.validation must be > 0 for this defence, which scores on the server's "
                "own images, got 0"
            )

    def check_test(self, test: LabelledImages, normalisation: Normalisation) -> None:
        """Refuses an attack whose success no test image would show.

        Args:
            test: Normalised test images.
            normalisation: Map between stored pixels and what networks see.

        Raises:
            ValueError: If it is one.
        """
        wanted = None if self.attack is None else self.attack.wanted(test, normalisation)
        if wanted is None or len(wanted):
            return
        if isinstance(self.attack, OfOneClass):
            raise ValueError(
                "attack.source must be a class that has test images, "
                f"{_classes(test.counts)} here, got {self.attack.source}"
            )
        raise ValueError(
            "attack must find test images to be judged by, those of other classes than its "
            f"target's, got class {_classes(test.counts)} alone"
        )

    def around(self, method: FederatedMethod, validation: LabelledImages) -> FederatedMethod:
        """Returns the method with the attack on its clients and the defence at its server.

        Args:
            method: Both halves, honest and trusting.
            validation: The server's own normalised images; none: empty.
        """
        if self.attack is None and self.defence is None:
            return method
        return _Contested(method, self, validation)

    def attackers(self, world: World) -> list[int]:
        """Returns which clients are malicious, ascending."""
        return [] if self.attack is None else malicious(self.attack.clients, world)

    def metrics(
        self, task: ServerTask, test: LabelledImages, rows: Iterable[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Returns how far the attack succeeded, and whom the defence set aside.

        Args:
            task: The server's, after the last round.
            test: Normalised test images.
            rows: Of all clients and rounds, as :class:`RoundReport` has them.
        """
        found: dict[str, Any] = {}
        attackers, world = self.attackers(task.world), task.world
        if self.attack is not None:
            found["malicious"] = attackers
            wanted = self.attack.wanted(test, world.normalisation)
            if wanted is not None:
                found["attack_success"] = score(task.model(), wanted)[0]
        if self.defence is not None:
            judged = [row for row in rows if row["failure"] is None]
            honest = set(range(len(world.clients))) - set(attackers)
            found["rejected_honest"] = _rejected(judged, honest)
            found["rejected_rare"] = _rejected(judged, honest & _with_rare_classes(world))
            found["rejected_malicious"] = _rejected(judged, set(attackers))
        return found


@final
@dataclass(frozen=True)
class _Contested(FederatedMethod):
    """A method some of whose clients attack, and whose server defends itself."""

    inner: FederatedMethod
    trust: Trust
    validation: LabelledImages

    @property
    def honest(self) -> FederatedMethod:
        return self.inner

    @property
    def vectors(self) -> tuple[str, ...]:
        return self.inner.vectors

    @property
    def keeps_state(self) -> bool:  # type: ignore[override]
        return self.inner.keeps_state

    def broadcast(self, server: ServerTask) -> Records:
        return self.inner.broadcast(server)

    def local_update(self, task: LocalTask) -> Records:
        attack = self.trust.attack
        if attack is not None and task.client in self.trust.attackers(task.world):
            return attack.upload(self.inner, task)
        return self.inner.local_update(task)

    def check(self, upload: Upload, server: ServerTask) -> None:
        self.inner.check(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        defence, world = self.trust.defence, server.world
        if defence is None or not isinstance(self.inner, Distilling):
            return self.inner.aggregate(server, uploads)
        came = list(uploads)  # small sets, which fit into memory as their union does
        form = self.inner.form
        read = form.alike(form.read(upload.records[IMAGES], world) for upload in came)
        sets = {upload.client: data for upload, data in zip(came, read, strict=True)}
        rejected = dict(defence.rejected(Evidence(sets, server, self.validation)))
        kept = [upload for upload in came if upload.client not in rejected]
        task = self.inner.aggregate(server, iter(kept)) if kept else server
        return replace(task, rejected=rejected)


def _check_held(label: int, attackers: Sequence[int], world: World) -> None:
    """Refuses a class of which no attacker has an image, if there are attackers.

    Raises:
        ValueError: If so.
    """
    held = client_counts(world)[attackers].sum(0)
    if attackers and not held[label]:
        raise ValueError(
            "attack.source must be a class that an attacker holds, "
            f"{_classes(held)} here, got {label}"
        )


def _classes(counts: Tensor) -> str:
    """Returns which classes have images."""
    return ", ".join(map(str, counts.nonzero().flatten().tolist()))


def _with_rare_classes(world: World) -> set[int]:
    held = client_counts(world) > 0
    rare = held.sum(0) <= RARE
    return set((held & rare).any(1).nonzero().flatten().tolist())


def _rejected(rows: Sequence[Mapping[str, Any]], clients: set[int]) -> float | None:
    """Returns the share of these clients' uploads that a defence set aside; None if none came."""
    own = [row["rejected"] is not None for row in rows if row["client"] in clients]
    return sum(own) / len(own) if own else None
