"""Runs that differ in nothing but the seed are one arm, named by what tells it from others."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from distill.stores import ITEMSIZES
from experiments.reporting.remarks import remarks
from experiments.reporting.runs import Array, Run, Setting
from fedcl.statistics import Interval, mean_interval, paired_difference

FEW_SEEDS = 3  # fewer are single looks
# Settings of the problem, which no method chooses, by the first word of their key.
CONDITIONS = (
    *("dataset", "network", "clients", "participation", "partition", "shift", "stream"),
    *("attack", "availability", "link"),
)
SIZES = ("ipc", "buffer.images", "buffer.bytes")  # settings that a byte axis shows
# Settings that every label shows as soon as two rivals differ in them.
_PROTOCOL = (
    "dataset.train_images",
    "dataset.validation",
    "network._target_",
    "ipc",
    "store",
    "buffer.images",
    "buffer.bytes",
    "buffer.allocation",
    "buffer.store._target_",
    "clients",
    "participation",
    "availability.dropout",
    "link._target_",
    "compression.up._target_",
    "compression.images._target_",
    "partition._target_",
    "partition.alpha",
    "shift._target_",
    "attack._target_",
    "attack.clients",
    "defence._target_",
    "stream._target_",
    "stream.tells_tasks",
    "stream.online",
    "stream.experiences",
)
_ALWAYS = ("federated.strategy", "federated.strategy._target_")  # says more than the name does
_PROBLEM = tuple(key for key in _PROTOCOL if key.partition(".")[0] in CONDITIONS)
# To lack one of these is a value, too: all images, or nothing that compresses or attacks.
_OPTIONAL = frozenset({"dataset", "compression", "attack", "defence", "link"})
_TAGS = {
    "dataset.train_images": "{} training images",
    "dataset.validation": "{} held out",
    "ipc": "ipc {}",
    "store": "{}",
    "buffer.images": "{} images",
    "buffer.bytes": "{} bytes",
    "buffer.allocation": "{}",
    "clients": "{} clients",
    "availability.dropout": "{} of clients drop out",
    "attack.clients": "{} attacking",
    "evaluation.updates": "scored after {} updates",
    # before other classes, where these tell as much
    "method.parameterisation.source._target_": "{}",
    "method.parameterisation.decoders.0._target_": "{}",
    "partition.alpha": "\N{GREEK SMALL LETTER ALPHA} {}",
    "rounds": "{} rounds",
    "stream.experiences": "{} experiences",
}
_NO_AND_YES = {
    "availability.dropout": ("no client drops out", None),
    "stream.tells_tasks": ("tasks untold", "tasks told"),
    "stream.online": ("offline", "online"),
}
_IN_WORDS = (
    "partition._target_",
    "attack._target_",
    "defence._target_",
    "stream._target_",
)  # networks' names, ConvNet, are one word


@final
@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but the seed.

    Attributes:
        runs: The latest completed run of each seed, ordered by seed.
        words: What tells this arm from the others of its section, by setting.
        failed: Seeds of which no run completed.
    """

    runs: tuple[Run, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    failed: int = 0

    @property
    def seeds(self) -> int:
        """How many were run, those that failed among them."""
        return len(self.runs) + self.failed

    @property
    def name(self) -> str:
        """The name its runs share, such as "replay-dm", wherever their clients worked."""
        backend = str(self.settings.get("backend._target_", "")).rpartition(".")[2]
        return self.runs[0].name.removesuffix(f"-{backend.lower()}")

    @property
    def family(self) -> str:
        """What uses the small set: "replay" of "replay-dm"; empty where there is none."""
        return self.name.rpartition("-")[0]

    @property
    def method(self) -> str:
        """How the small set is made: "dm" of "replay-dm"; the name where there is none."""
        return self.name.rpartition("-")[2]

    @property
    def bound(self) -> str:
        """Which bound to judge by it is, "lower" or "upper"; empty for a rival."""
        remark = remarks(self.runs[0].scenario).get(self.name)
        return remark.bound if remark else ""

    @property
    def iterative(self) -> bool:
        """Whether it has a curve to draw, though some seeds reach their target in one round."""
        return any(run.iterative for run in self.runs)

    @property
    def settings(self) -> dict[str, Setting]:
        """The settings its runs share."""
        return self.runs[0].settings

    @property
    def size(self) -> float:
        """Images per class whose float32 pixels take what a small set may store, to the nearest.

        So 39 images in uint8, with learned labels beside them, are a rival of 10 in float32.
        """
        exact = float(self.settings.get("ipc", 0.0)) * ITEMSIZES[self.store] / ITEMSIZES["float32"]
        return exact if exact < 1 else float(round(exact))

    @property
    def store(self) -> str:
        """The type in which a small set is kept."""
        return str(self.settings.get("store", "float32"))

    @property
    def conditions(self) -> tuple[tuple[str, Setting], ...]:
        """The settings of the problem: network, clients, links, partition, shift, stream."""
        return self.settings_of(CONDITIONS)

    @property
    def evaluation(self) -> tuple[tuple[str, Setting], ...]:
        """The settings by which networks learn a small set when it is scored."""
        return self.settings_of({"evaluation"})

    def settings_of(self, groups: Collection[str]) -> tuple[tuple[str, Setting], ...]:
        """Returns the settings whose keys begin with one of these words, sorted."""
        found = ((k, v) for k, v in self.settings.items() if k.partition(".")[0] in groups)
        return tuple(sorted(found))

    @property
    def label(self) -> str:
        """The arm's name in tables and legends, such as "dm · ipc 10"."""
        return self.label_without()

    def label_without(self, *keys: str) -> str:
        """Returns the label less some settings: those that a figure shows on an axis."""
        return " · ".join([self.name, *self.tags(*keys)])

    def tags(self, *without: str) -> tuple[str, ...]:
        """Returns the settings that tell this arm apart as words, less those named."""
        return tuple(word for key, word in self.words.items() if key not in without)

    def values(self, key: str) -> dict[int, float]:
        """Returns a metric by seed, for the seeds that have it."""
        found = {run.seed: run.number(key) for run in self.runs}
        return {seed: value for seed, value in found.items() if value is not None}

    def interval(self, key: str) -> Interval | None:
        """Returns a metric's mean and 95 % t-interval over seeds; None where no run has it."""
        values = list(self.values(key).values())
        return mean_interval(values) if values else None

    def mean(self, key: str, seeds: Collection[int] | None = None) -> float | None:
        """Returns a metric's mean over seeds, all or those named; None where no run has it."""
        found = self.values(key)
        values = [value for seed, value in found.items() if seeds is None or seed in seeds]
        return float(np.mean(values)) if values else None

    def word(self, key: str) -> str | None:
        """Returns a metric that is a word, such as an origin; None where seeds have no one word."""
        words = {run.metrics.get(key) for run in self.runs}
        word = words.pop()
        return word if isinstance(word, str) and not words else None

    def mean_matrix(self, key: str) -> Array | None:
        """Returns a matrix's mean over seeds; None where there is none or sizes differ."""
        matrices = [matrix for run in self.runs if (matrix := run.matrix(key)) is not None]
        if not matrices or len({matrix.shape for matrix in matrices}) > 1:
            return None
        mean: Array = np.mean(matrices, axis=0)
        return mean


def shared(key: str, first: Arm, second: Arm) -> tuple[list[float], list[float]]:
    """Returns a metric of two arms on the seeds that both have, in the order of the seeds."""
    a, b = first.values(key), second.values(key)
    seeds = sorted(a.keys() & b.keys())
    return [a[seed] for seed in seeds], [b[seed] for seed in seeds]


def pairs(key: str, first: Arm, second: Arm) -> int:
    """Returns on how many seeds both arms have a metric."""
    return len(shared(key, first, second)[0])


def paired(key: str, first: Arm, second: Arm) -> Interval | None:
    """Returns a metric of one arm less that of another, paired by seed; None without a pair."""
    values, others = shared(key, first, second)
    return paired_difference(values, others) if values else None


def group(runs: Iterable[Run]) -> tuple[Arm, ...]:
    """Returns the runs of one scenario by arm, named apart; of one seed the latest run counts.

    Arms of which no run completed are left out.
    """
    by_arm: dict[tuple[str, str], dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (run.completed, run.text("started"))):
        key = (run.name, json.dumps(run.settings, sort_keys=True))
        by_arm.setdefault(key, {})[run.seed] = run
    return name_apart([arm for key in sorted(by_arm) if (arm := _arm(by_arm[key])).runs])


def _arm(by_seed: Mapping[int, Run]) -> Arm:
    completed = tuple(run for _, run in sorted(by_seed.items()) if run.completed)
    return Arm(completed, failed=len(by_seed) - len(completed))


def name_apart(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Returns the arms with the fewest settings in their labels that tell them apart.

    The protocol's settings (_PROTOCOL), and those by which small sets are scored, are shown as
    soon as any two rivals differ in them, other settings only where two labels would be equal, or
    two curves over sizes (SIZES) be one: what merely follows from the method stays out.
    """
    shown = [key for key in _PROTOCOL if _differ(key, [arm for arm in arms if not arm.bound])]
    begun = []
    for arm, scored in zip(arms, words_of("evaluation", arms), strict=True):
        keys = () if arm.bound else (*_ALWAYS, *shown)
        own = {key: tag(key, arm.settings[key]) for key in keys if key in arm.settings}
        if arm.runs[0].scenario == "distillation":
            own |= {key: word for key, word in scored.items() if key in arm.settings}
        begun.append({"name": arm.name, **own})
    begun = _told_beside_sizes([arm.settings for arm in arms], begun)
    named = tell_apart([arm.settings for arm in arms], begun)
    for words in named:
        del words["name"]
    return tuple(replace(arm, words=words) for arm, words in zip(arms, named, strict=True))


def _told_beside_sizes(
    settings: Sequence[Mapping[str, Setting]], begun: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Returns words that stay apart without sizes wherever more than these differs."""
    names = [_sizeless(words) for words in begun]
    configs = [_sizeless(own) for own in settings]
    kinds = list(zip(names, configs, strict=True))
    different = [kind for i, kind in enumerate(kinds) if kind not in kinds[:i]]
    told = tell_apart([own for _, own in different], [words for words, _ in different])
    found = (told[different.index(kind)] for kind in kinds)
    return [{**words, **more} for words, more in zip(begun, found, strict=True)]


def _sizeless(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values by setting, less SIZES wherever they stand."""
    return {k: v for k, v in values.items() if not f".{k}".endswith(tuple(f".{s}" for s in SIZES))}


def words_of(group: str, arms: Sequence[Arm]) -> list[dict[str, str]]:
    """Returns, for each arm, the fewest words that tell its settings of a group from others'.

    Args:
        group: The first word of the settings' keys.
        arms: All that are to be told apart, as far as they differ.
    """
    owned = [arm.settings_of({group}) for arm in arms]
    different = list(dict.fromkeys(owned))
    blank: dict[str, Setting | None] = {key: None for own in different for key, _ in own}
    told = tell_apart([blank | dict(own) for own in different], [{} for _ in different])
    return [told[different.index(own)] for own in owned]


def tell_apart(
    settings: Sequence[Mapping[str, Setting | None]], begun: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Returns words, by setting, in which all configurations differ.

    Args:
        settings: The configurations, no two of equal words alike.
        begun: Words that are said anyway; the fewest further ones are added.
    """
    told = [dict(words) for words in begun]
    while alike := _first_alike(told):
        used = {key for i in alike for key in told[i]}
        key, words = _telling([settings[i] for i in alike], used)
        for i, word in zip(alike, words, strict=True):
            told[i] |= {key: word} if word else {}
    return told


def _first_alike(told: Sequence[Mapping[str, str]]) -> list[int]:
    places: dict[tuple[str, ...], list[int]] = {}
    for i, words in enumerate(told):
        places.setdefault(tuple(words.values()), []).append(i)
    return next((same for same in places.values() if len(same) > 1), [])


def _telling(
    alike: Sequence[Mapping[str, Setting | None]], used: Collection[str]
) -> tuple[str, list[str]]:
    """Returns a setting that differs and its words in each: in full, where no tags differ."""
    keys = sorted({key for own in alike for key in own}, key=_rank)
    ways = [(key, tag) for key in keys if key not in used] + [(key, _in_full) for key in keys]
    said = ((key, [say(key, own[key]) if key in own else "" for own in alike]) for key, say in ways)
    return next((key, words) for key, words in said if len(set(words)) > 1)


def _rank(key: str) -> tuple[object, ...]:
    """Where a setting comes among those that might tell: classes before their numbers."""
    return not key.endswith("_target_"), key not in _TAGS, key.count("."), key


def _in_full(key: str, value: Setting | None) -> str:
    return f"{key} {value!r}"


def shared_tags(arms: Sequence[Arm]) -> list[str]:
    """Returns the conditions that all arms share, as words; none for nothing held out."""
    first = arms[0].settings
    return [tag(k, first[k]) for k in _PROBLEM if first.get(k) and not _differ(k, arms)]


def _differ(key: str, arms: Sequence[Arm]) -> bool:
    """Whether arms have several values of a setting; to lack one counts where it is optional."""
    optional = key.partition(".")[0] in _OPTIONAL
    having = [arm for arm in arms if optional or key in arm.settings]
    return len({arm.settings.get(key) for arm in having}) > 1


def tag(key: str, value: Setting | None) -> str:
    """Returns a setting as a few words for a label.

    >>> tag("ipc", 10.0), tag("defence._target_", "fedcl.defences.class_means.ClassMeans")
    ('ipc 10', 'class means')
    >>> tag("rounds", 1.0), tag("rounds", 20.0)
    ('1 round', '20 rounds')
    >>> tag("attack._target_", None), tag("stream.sizes", "[]")
    ('no attack', 'no sizes')
    >>> tag("stream.tells_tasks", 1.0), tag("availability.dropout", 0.0)
    ('tasks told', 'no client drops out')
    """
    if key in _NO_AND_YES and (words := _NO_AND_YES[key][bool(value)]):
        return words
    if value is None or value == "[]":
        noun = key.removesuffix("._target_").rpartition(".")[2]
        return "all training images" if noun == "train_images" else f"no {noun}"
    last = key.rpartition(".")[2]
    if key == "federated.strategy":
        return str(value).lower()
    if last == "_target_":
        name = str(value).rpartition(".")[2]
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) if key in _IN_WORDS else name
        return words.lower()
    text = value if isinstance(value, str) else f"{value:.12g}"
    usual = f"scored with {last} {{}}" if key.startswith("evaluation.") else f"{last} {{}}"
    words = _TAGS.get(key, usual).format(text)
    return words.removesuffix("s") if text == "1" else words
