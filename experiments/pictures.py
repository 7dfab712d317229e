"""The pictures that a run leaves in its own folder, whatever any report shows later."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.reporting.heatmaps import draw_spread
from experiments.reporting.images import Stack, draw_images
from experiments.reporting.plates import Panel
from experiments.scenarios.base import Outcome


def write_pictures(folder: Path, outcome: Outcome) -> None:
    """Writes ``figures/*.png``: images, how they came, who has which and sees them how."""
    drawn = dict[str, Figure]()
    if outcome.synthetic is not None:
        small = outcome.synthetic
        pixels = small.normalisation.quantise(small.data.images).cpu().numpy()
        stack = Stack.of(pixels, small.data.labels.cpu().numpy())
        drawn["synthetic"] = draw_images(stack, "synthetic images", stack.classes)
    if outcome.evolution:
        # One row a class, one column a step, so the images of a class are its first one over time.
        pixels = np.stack([images.cpu().numpy() for images in outcome.evolution.values()], 1)
        labels = np.arange(len(pixels)).repeat(pixels.shape[1])
        stack = Stack.of(pixels.reshape(-1, *pixels.shape[2:]), labels)
        steps = ", ".join(map(str, outcome.evolution))
        drawn["evolution"] = draw_images(stack, f"first images after {steps} steps", stack.classes)
    if "class_counts" in outcome.metrics:
        counts = np.asarray(outcome.metrics["class_counts"])
        drawn["partition"] = draw_spread(counts, "images of each class on each client")
    if outcome.seen:
        pixels = np.concatenate([images.cpu().numpy() for images in outcome.seen.values()])
        clients = np.array([*outcome.seen]).repeat(len(pixels) // len(outcome.seen))
        stack = Stack.of(pixels, clients)
        drawn["shift"] = draw_images(
            stack, "what each client sees of the same images", stack.classes
        )
    for name, figure in drawn.items():
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{name}.png").write_bytes(Panel(name, figure, name).png)
