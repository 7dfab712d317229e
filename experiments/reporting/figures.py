"""The figures of each scenario, in the order of reading, and what to look at in each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import matplotlib as mpl

from experiments.reporting.arms import SIZES, Arm, tag
from experiments.reporting.attacks import draw_attacks
from experiments.reporting.bars import draw_client_bars
from experiments.reporting.charts import Chart, Level, draw_chart
from experiments.reporting.conditions import by_conditions
from experiments.reporting.dots import draw_dots
from experiments.reporting.fading import Course, draw_fading
from experiments.reporting.fronts import Point, draw_fronts, front
from experiments.reporting.heatmaps import draw_matrices, draw_spread
from experiments.reporting.images import draw_images, gallery
from experiments.reporting.memories import draw_memories, memories
from experiments.reporting.numbers import bytes_text
from experiments.reporting.plates import Panel, Plate
from experiments.reporting.runs import Array
from experiments.reporting.sections import Section, slug
from experiments.reporting.styles import ALL_DATA, SETTINGS, Palette, Style
from experiments.reporting.traces import (
    BYTES,
    ROUNDS,
    SECONDS,
    Axis,
    over_rounds,
    over_stored,
)
from experiments.reporting.trust import contested
from experiments.reporting.uploads import by_client

MAX_SPREADS = 6

_BARS = "Bars, from three seeds on, are 95 % t-intervals."
_BUFFER = "buffer bytes (log scale)"
_SO_FAR = "test accuracy on classes so far"
_APART = "Points at equal bytes stand slightly apart."


def plates(section: Section, palette: Palette) -> tuple[Plate, ...]:
    """Returns the figures of a section, in the order of reading."""
    with mpl.rc_context(SETTINGS):
        return tuple(_PLATES[section.scenario](section, palette)) if section.arms else ()


def _distillation(section: Section, palette: Palette) -> list[Plate]:
    by_size: dict[str, list[Arm]] = {}
    what = "float32 image" if any(arm.store != "float32" for arm in section.arms) else "image"
    for arm in sorted(section.arms, key=lambda arm: arm.size):
        title = f"{arm.size:g} {what}{'s' * (arm.size != 1)} per class"
        by_size.setdefault(title, []).append(arm)
    images = (
        "One row a class, first seed, at most ten images of each. Look for what the method kept of "
        "a class."
    )
    galleries = [
        plate
        for title, arms in by_size.items()
        for plate in gallery(section, arms, f"Images at {title}", images, without=["ipc"])
    ]
    return [_dots(section, by_size, palette), *_stored(section, palette), *galleries]


def _dots(section: Section, by_size: Mapping[str, Sequence[Arm]], palette: Palette) -> Plate:
    caption = (
        "Look at how far each method lies to the right of its grey tick, random real images of the "
        "same bytes, and whether its bar clears it. The dotted line is the random arm of the "
        f"panel. {_BARS} Each panel has its own scale."
    )
    alt = f"Accuracy of {', '.join(arm.label for arm in section.arms)}."
    panel = Panel(f"{section.slug}-accuracy", draw_dots(by_size, palette), alt)
    return Plate("Accuracy by method", caption, (panel,))


def _stored(section: Section, palette: Palette) -> list[Plate]:
    whole = [x for arm in section.arms for x in arm.values("whole_accuracy").values()]
    chart = replace(
        over_stored(section, palette, "storage_bytes", "accuracy"),
        x_title="bytes stored (log scale)",
        y_title="test accuracy",
        levels=(Level("all real data", ALL_DATA, sum(whole) / len(whole)),) if whole else (),
    )
    caption = (
        "Higher and further left is better: more accuracy out of fewer bytes. Compare methods "
        f"above one another, where they store the same. {_BARS} {_APART}"
    )
    return _plate(section, "bytes", "Accuracy over stored bytes", caption, {"": chart})


def _federated(section: Section, palette: Palette) -> list[Plate]:
    own = [arm for arm in section.arms if arm.runs[0].made_by_server]
    theirs = [arm for arm in section.arms if not arm.runs[0].made_by_server]
    images = (
        "All clients' uploads together, one row a class, first seed, at most ten images of each. "
        "This is what leaves the clients."
    )
    distilled = (
        "Sets that the server made, one row a class, first seed, at most ten images of each. No "
        "image left a client for them."
    )
    return [
        *_front(section, palette),
        *_attacks(section, palette),
        *_bytes_sent(section, palette),
        *_rounds(section, palette),
        *_time(section, palette),
        *_client_bars(section, palette),
        *_spreads(section),
        *gallery(section, theirs, "What the clients upload", images),
        *gallery(section, own, "What the server distils", distilled),
        *_uploads(section),
    ]


def _front(section: Section, palette: Palette) -> list[Plate]:
    looks = _looks(section, palette)
    panels = {
        title: [point for arm in arms if (point := _point(arm, looks[arm.label]))]
        for title, arms in by_conditions(section.arms).items()
    }
    if not any(len(points) > 1 for points in panels.values()):
        return []
    caption = (
        "A point is an arm at its end: all that it sent, and what it learnt. The line joins those "
        "that no arm beats with as many bytes or fewer; pale points lie below it, which an "
        f"interval that reaches the line leaves open. {_BARS}"
    )
    best = {title: [point.label for point in front(points)] for title, points in panels.items()}
    alt = "; ".join(f"{title}: {', '.join(names)}".lstrip(": ") for title, names in best.items())
    panel = Panel(f"{section.slug}-front", draw_fronts(panels), f"Not beaten at its bytes: {alt}.")
    return [Plate("Accuracy over bytes: the Pareto front", caption, (panel,))]


def _point(arm: Arm, style: Style) -> Point | None:
    sent, accuracy = arm.mean("bytes_total"), arm.interval("accuracy")
    return Point(arm.label, style, sent, accuracy) if sent and accuracy else None


def _attacks(section: Section, palette: Palette) -> list[Plate]:
    arms = contested(section)
    if not any(arm.interval("attack_success") for arm in arms):
        return []
    attacked = by_conditions(arms)
    caption = (
        "A good defence keeps the left side where it is and brings the right side to what nobody's "
        "attack reaches. No dot on the right: the attack wants no one answer. A bar that leaves "
        f"the axis is an interval of few seeds. {_BARS}"
    )
    figure = draw_attacks(attacked, _looks(section, palette))
    alt = f"Clean accuracy and attack success under {'; '.join(attacked)}."
    panel = Panel(f"{section.slug}-attacks", figure, alt)
    return [Plate("What attacks reach, and what defences leave of it", caption, (panel,))]


def _client_bars(section: Section, palette: Palette) -> list[Plate]:
    panels, looks = list[Panel](), _looks(section, palette)
    for title, arms in by_conditions(section.arms).items():
        found = {arm.label: arm.runs[0].vector("client_accuracies") for arm in arms}
        bars = {label: values for label, values in found.items() if values is not None}
        if bars:
            figure = draw_client_bars(bars, looks, title)
            alt = f"Accuracy of each client. {title}: {', '.join(bars)}."
            panels.append(Panel(slug(f"{section.slug} bars {title}"), figure, alt))
    caption = (
        "What the global network is worth to each client, on test images of the client's own "
        "classes; first seed, clients as in the heat maps. Dashes are the clients' mean. Look for "
        "clients that an arm with a good mean leaves behind."
    )
    return [Plate("Accuracy of each client", caption, tuple(panels))] if panels else []


def _uploads(section: Section) -> list[Plate]:
    kept = [arm for arm in section.arms if (arm.runs[0].folder / "synthetic.safetensors").is_file()]
    stacks = {arm.label: stack for arm in kept if (stack := by_client(arm.runs[0])) is not None}
    panels = tuple(
        Panel(
            f"{section.slug}-uploads-{slug(label)}",
            draw_images(stack, label, stack.classes),
            f"The first image of each class that each client uploads, {label}.",
            vector=False,
        )
        for label, stack in stacks.items()
    )
    caption = (
        "One row a client, one column a class, the first image of it in the client's set, first "
        "seed; grey where the client has none. This is what one client alone gives away."
    )
    return [Plate("What each client uploads", caption, panels)] if panels else []


def _bytes_sent(section: Section, palette: Palette) -> list[Plate]:
    marks = {title: _raw_images(arms) for title, arms in by_conditions(section.arms).items()}
    charts = {
        title: replace(chart, mark=marks[title])
        for title, chart in _by_conditions(section, palette, BYTES).items()
    }
    caption = ["Higher and further left is better."]
    if any(chart.levels for chart in charts.values()):
        caption.append(
            "Where a curve crosses the dotted line of a one-shot method is what it takes to do as "
            "well by rounds."
        )
    if any(marks.values()):
        caption.append(
            "Right of the dashed line, sending the clients' raw images would have been cheaper."
        )
    caption.append(_bands(section))
    return _plate(section, "bytes", "Accuracy over bytes sent", " ".join(caption), charts)


def _raw_images(arms: Sequence[Arm]) -> tuple[str, float] | None:
    """What all arms' clients have as raw images, as a mark; None where arms differ in it."""
    means = {mean for arm in arms if (mean := arm.mean("raw_bytes"))}
    if len(means) != 1:
        return None
    (mean,) = means
    return f"clients' raw images · {bytes_text(mean)}", mean


def _rounds(section: Section, palette: Palette) -> list[Plate]:
    if not any(arm.iterative for arm in section.arms):
        return []
    caption = (
        "The same runs over rounds, which are waits on slow links. A one-shot method is a point, "
        f"prolonged as a dotted line. {_bands(section)}"
    )
    charts = _by_conditions(section, palette, ROUNDS)
    return _plate(section, "rounds", "Accuracy over rounds", caption, charts)


def _bands(section: Section) -> str:
    """What bands are and, where seeds took unequal rounds, how they are averaged."""
    uneven = any(len({len(run.history) for run in arm.runs}) > 1 for arm in section.arms)
    ended = " A seed that reached its target stays where it ended."
    return f"Bands and bars, from three seeds on, are 95 % t-intervals.{ended * uneven}"


def _by_conditions(section: Section, palette: Palette, axis: Axis) -> dict[str, Chart]:
    looks, charts = _looks(section, palette), dict[str, Chart]()
    for title, arms in by_conditions(section.arms).items():
        chart = over_rounds(arms, looks, axis)
        on_stream = section.scenario == "federated_continual"
        charts[title] = replace(chart, y_title=_SO_FAR) if on_stream else chart
    return charts


def _looks(section: Section, palette: Palette) -> dict[str, Style]:
    """Returns looks by label, of which an arm has one under all conditions."""
    return palette.of_arms(arm for arms in by_conditions(section.arms).values() for arm in arms)


def _time(section: Section, palette: Palette) -> list[Plate]:
    charts = _by_conditions(section, palette, SECONDS)
    caption = (
        "Higher and further left is better: what a round costs on the links that were simulated, "
        "the slowest client of each waited for, up to a deadline where there is one. Runs without "
        f"such links are not shown. {_bands(section)}"
    )
    return _plate(section, "seconds", "Accuracy over simulated time", caption, charts)


def _stream(section: Section, palette: Palette) -> list[Plate]:
    chart = over_rounds(section.arms, palette.of_arms(section.arms), ROUNDS)
    count = max((int(trace.x[-1]) for trace in chart.traces), default=0)
    chart = replace(
        chart,
        x_title="experiences learned, each with all its rounds",
        y_title=_SO_FAR,
        experiences=count,
    )
    caption = (
        "Look at the drop behind each thin line, where a new experience begins: the deeper it is "
        f"and the less of it comes back, the more is forgotten. {_bands(section)}"
    )
    return _plate(section, "rounds", "Accuracy along the stream", caption, {"": chart})


def _spreads(section: Section) -> list[Plate]:
    found: dict[tuple[bytes, float | None], tuple[Arm, Array]] = {}
    for arm in section.arms:
        counts = arm.runs[0].matrix("class_counts")
        if counts is not None:
            found.setdefault((counts.tobytes(), arm.runs[0].number("feature_shift")), (arm, counts))
    panels = tuple(
        Panel(
            f"{section.slug}-clients-{i + 1}",
            draw_spread(counts, _spread_title(arm, len(counts))),
            f"Images of each class at each of {len(counts)} clients.",
        )
        for i, (arm, counts) in enumerate(list(found.values())[:MAX_SPREADS])
    )
    caption = (
        "One row a client, one column a class, first seed; grey is none. The emptier the rows, "
        "the less alike the clients, and the harder it is to average what they learn."
    )
    return [Plate("How the classes are spread over clients", caption, panels)] if panels else []


def _spread_title(arm: Arm, clients: int) -> str:
    run = arm.runs[0]
    keys = ("partition._target_", "partition.alpha")
    parts = [tag(key, run.settings[key]) for key in keys if key in run.settings]
    parts += [f"{clients} clients", f"seed {run.seed}"]
    scalars = ("heterogeneity", "quantity_skew", "feature_shift")
    unlike = [
        f"{key.replace('_', ' ')} {value:.2f}" for key in scalars if (value := run.number(key))
    ]
    return "\n".join(map(", ".join, filter(None, (parts, unlike))))


def _continual(section: Section, palette: Palette) -> list[Plate]:
    """Over bytes first, where there are several sizes of buffer to choose among."""
    sizes = {f"{size:.2g}" for arm in section.arms if (size := arm.mean("buffer_bytes"))}
    stored = [*_accuracy_stored(section, palette), *_forgetting_stored(section, palette)]
    learnt = [*_matrices(section), *_fading(section, palette)]
    first = [*stored, *learnt] if len(sizes) > 1 else [*learnt, *stored]
    return [*first, *_buffers(section), *_memories(section)]


def _accuracy_stored(section: Section, palette: Palette) -> list[Plate]:
    charts = _over_buffers(section, palette, "average_accuracy", "average accuracy at the end")
    caption = (
        "Higher and further left is better. Lines without marks keep no images, as learning "
        "without a memory (naive), or all of them (cumulative: all so far; joint: the whole "
        f"stream at once). {_BARS} {_APART}"
    )
    return _plate(section, "buffer", "Accuracy over buffer bytes", caption, charts)


def _forgetting_stored(section: Section, palette: Palette) -> list[Plate]:
    charts = _over_buffers(section, palette, "average_forgetting", "average forgetting")
    caption = (
        "Lower is better: the best accuracy that an experience had before the end less its "
        f"accuracy at the end. {_BARS} {_APART}"
    )
    return _plate(section, "forgetting", "Forgetting over buffer bytes", caption, charts)


def _over_buffers(section: Section, palette: Palette, key: str, y_title: str) -> dict[str, Chart]:
    charts = dict[str, Chart]()
    for title, arms in by_conditions(section.arms).items():
        alike = replace(section, arms=tuple(arms))
        chart = over_stored(alike, palette, "buffer_bytes", key)
        least = -1.0 if key == "average_forgetting" else 0.0
        charts[title] = replace(chart, x_title=_BUFFER, y_title=y_title, least=least)
    return charts


def _square(arm: Arm) -> Array | None:
    """The mean matrix; what learns all at once has one row only, and nothing to compare."""
    matrix = arm.mean_matrix("accuracy_matrix")
    return matrix if matrix is not None and len(set(matrix.shape)) == 1 else None


def _matrices(section: Section) -> list[Plate]:
    kept = {arm.label: matrix for arm in section.arms if (matrix := _square(arm)) is not None}
    if not kept:
        return []
    caption = (
        "Read a column downwards: how the accuracy on one experience fades while later ones are "
        "learned. Mean over seeds, percent; grey was not yet learned."
    )
    alt = f"Accuracy on each experience after each, for {', '.join(kept)}."
    panel = Panel(f"{section.slug}-matrices", draw_matrices(kept), alt)
    return [Plate("Accuracy matrices", caption, (panel,))]


def _fading(section: Section, palette: Palette) -> list[Plate]:
    panels = tuple(
        panel
        for words, arms in by_conditions(section.arms).items()
        for panel in _faded(replace(section, arms=tuple(arms)), palette, words)
    )
    caption = (
        "The heat maps as lines, for arms of equal buffers: the steeper a line falls from its "
        "first point, the faster the experience is forgotten; a low first point is one that was "
        "never learned well. Mean over seeds."
    )
    return [Plate("Accuracy on each experience over time", caption, panels)] if panels else []


def _faded(section: Section, palette: Palette, words: str) -> Iterator[Panel]:
    """A panel for each size of buffer, with the bounds in all of them."""
    styles = palette.of_arms(section.arms, *SIZES)
    bounds = [arm for arm in section.arms if arm.bound]
    for rivals in sorted(section.rivals, key=lambda arms: arms[0].mean("buffer_bytes") or 0):
        lines = [
            Course(label, styles[label], bool(arm.bound), matrix)
            for arm in (*rivals, *bounds)
            if (matrix := _square(arm)) is not None and (label := arm.label_without(*SIZES))
        ]
        if not all(line.bound for line in lines):
            size = f"buffers of {bytes_text(rivals[0].mean('buffer_bytes') or 0)}"
            title = f"{words}, {size}" if words else size
            arms = ", ".join(line.label for line in lines)
            alt = f"Accuracy on each experience, {title}, for {arms}."
            yield Panel(slug(f"{section.slug}-fading {title}"), draw_fading(lines, title), alt)


def _buffers(section: Section) -> list[Plate]:
    caption = (
        "The memory after the last experience, one row a class, first seed, at most ten images of "
        "each."
    )
    return gallery(section, section.arms, "What the buffer holds at the end", caption)


def _memories(section: Section) -> list[Plate]:
    panels = tuple(
        Panel(
            f"{section.slug}-memories-{slug(arm.label)}",
            draw_memories(kept, arm.label),
            f"Images in the memory after each experience, {arm.label}.",
            vector=False,
        )
        for arm in section.arms
        if (kept := memories(arm.runs[0]))
    )
    caption = (
        "A block of columns for each experience, a row for each class in the order of learning, "
        "first seed, the first images of each. Look for what changes in a row: images that are "
        "dropped, or made again, as the memory is shared by more classes."
    )
    return [Plate("What the buffer holds after each experience", caption, panels)] if panels else []


def _federated_continual(section: Section, palette: Palette) -> list[Plate]:
    return [
        *_stream(section, palette),
        *_bytes_sent(section, palette),
        *_time(section, palette),
        *_matrices(section),
        *_spreads(section),
        *_buffers(section),
    ]


def _plate(
    section: Section, name: str, title: str, caption: str, charts: Mapping[str, Chart]
) -> list[Plate]:
    """The charts as a plate, by their conditions; an empty list where they have nothing to show."""
    panels = list[Panel]()
    for words, chart in charts.items():
        if chart.traces:
            arms = ", ".join(trace.label for trace in chart.traces)
            alt = f"{title}. {chart.y_title} over {chart.x_title} for {arms}."
            stem = slug(f"{section.slug}-{name} {words}")
            panels.append(Panel(stem, draw_chart(replace(chart, title=words)), alt))
    return [Plate(title, caption, tuple(panels))] if panels else []


_PLATES: Mapping[str, Callable[[Section, Palette], list[Plate]]] = {
    "distillation": _distillation,
    "federated": _federated,
    "continual": _continual,
    "federated_continual": _federated_continual,
}
