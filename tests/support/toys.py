"""Words that make a run of any method a matter of a second, on the digits."""

from functools import cache

from experiments.build import plan
from experiments.listing import config_folder

# Toy sizes by what a preset is made of; keys that its parts don't have are left out below.
TOY = {
    "method": {"iterations": 2, "rate_count": 2},
    "objective.real_batch": 4,
    "objective.inner_steps": 2,
    "objective.terminal.batch": 2,
    "experts": {"count": 1, "epochs": 6, "images": 40},
    "network_source.recipe.epochs": 1,
    "network_source.outer": 2,
    "parameterisation.decoders.0.steps": 5,
}
SMALL = ["dataset.train_images=200", "network.width=4", "network.depth=2", "ipc=3"]


def small_distilling(words: list[str]) -> list[str]:
    """The words with toy sizes wherever the composition has such a key."""
    config = plan("distillation", [*words, *SMALL]).config
    added = []
    for key, value in TOY.items():
        pairs = (
            {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        )
        added += [f"{path}={v}" for path, v in pairs.items() if has(config, path)]
    return [*words, *SMALL, *added]


def has(config, path: str) -> bool:
    for part in path.split("."):
        if isinstance(config, list):
            config = dict(zip(map(str, range(len(config))), config, strict=True))
        if not isinstance(config, dict) or part not in config:
            return False
        config = config[part]
    return True


SMALL_WORLD = ["dataset.train_images=200", "network=mlp", "clients=3", "threads=1"]
SIZES = {
    "method.iterations": 2,
    "rounds": 2,
    "federated.collecting": 1,
    "federated.networks": 2,
    "objective.terminal.span": 1,
    "evaluation.recipe.epochs": 2,
    "evaluation.recipe.decay_after": 1,
}
METHODS: dict[str, list[str]] = {
    "one_shot": ["method=kmeans", "ipc=2"],
    "collabdm": ["ipc=2"],
    "feddm": ["ipc=2"],
    "dynafed": ["ipc=2"],
    "fedd3": ["ipc=2"],
    "dosfl": ["ipc=2", "objective.inner_steps=2", "method.rate_count=2"],
    "fedaf": ["ipc=2"],
    "fedlgd": ["ipc=2", "federated.anchors.iterations=2"],
}


@cache
def small_federation(method: str) -> list[str]:
    """The words of a run at toy size, as far as the method has such keys."""
    words = [f"federated={method}", *METHODS.get(method, []), *SMALL_WORLD]
    config = plan("federated", words).config
    return [*words, *(f"{key}={value}" for key, value in SIZES.items() if has(config, key))]


def has_memory(strategy: str) -> bool:
    return "${buffer}" in (config_folder() / "continual" / f"{strategy}.yaml").read_text()


SYSTEMS = {  # presets of a method too: what makes them short, and the images that they keep
    "distilled_replay": (["method.iterations=1", "objective.inner_steps=2"], 10),
    "addressable_memories": (
        ["method.iterations=1", "objective.inner_steps=2", "buffer.images=50"],
        800,  # 16 for each of 50
    ),
    "composition": (["method.iterations=1", "buffer.images=50"], 200),  # 4 for each of 50
    "olcgm": (["method.iterations=1", "buffer.images=20"], 20),
    "ssd": (["method.iterations=1", "buffer.images=20"], 20),
}
