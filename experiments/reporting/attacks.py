"""What attacks reach, and what defences leave of it, arm by arm."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.reporting.arms import Arm
from experiments.reporting.charts import bar, percent_tick
from experiments.reporting.styles import Style

_SIDES = {"accuracy": "clean accuracy", "attack_success": "attack success"}


def draw_attacks(arms: Mapping[str, Sequence[Arm]], looks: Mapping[str, Style]) -> Figure:
    """Returns clean accuracy beside attack success, the arms of an attack below its name.

    Args:
        arms: Arms by attack, with labels that lack its name.
        looks: Looks by label.
    """
    rows = [
        row
        for title, rivals in arms.items()
        for row in (title, *sorted(rivals, key=lambda arm: arm.label))  # no defence comes first
    ]
    size = (8.6, 0.9 + 0.24 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    sides = figure.subplots(1, len(_SIDES), sharey=True)
    for axes, (key, title) in zip(sides, _SIDES.items(), strict=True):
        for y, arm in enumerate(rows):
            if isinstance(arm, Arm):
                _draw_dot(axes, arm, key, y, looks[arm.label])
        axes.set_xlabel(title)
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    names = [row.label if isinstance(row, Arm) else row for row in rows]
    sides[0].set_yticks(range(len(rows)), names)
    sides[0].set_ylim(len(rows) - 0.4, -0.6)
    sides[0].set_xlim(right=min(sides[0].get_xlim()[1], 1.004))
    sides[1].set_xlim(-0.03, 1.03)
    for row, name in zip(rows, sides[0].get_yticklabels(), strict=True):
        name.set_fontweight("normal" if isinstance(row, Arm) else "bold")
    return figure


def _draw_dot(axes: Axes, arm: Arm, key: str, y: int, style: Style) -> None:
    if interval := arm.interval(key):
        half = bar(interval) or None  # no caps without a bar
        axes.errorbar(interval.mean, y, xerr=half, elinewidth=1.3, **style.points())
