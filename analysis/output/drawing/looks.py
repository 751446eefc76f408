"""How the curves of runs are told apart: by colours in an order where the runs have one, else by colour and dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caffebench.analysis.output.drawing.plot_style import DASHES, style
from caffebench.analysis.runs.configurations import differences
from caffebench.analysis.runs.groups import Group
from caffebench.analysis.runs.model import Run

__all__ = ["MARKERS", "SCALE", "Look", "looks"]

SCALE = ("#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39")
"""Viridis (van der Walt and Smith, 2015) from 0.15 to 0.85: lighter with each step, in grey and for the colour-blind
too."""
MARKERS = "osD^vP<X>*"
"""Of curves that are more than ten."""
DISTINCT = 10
MOST_COMPARED = 60
"""Of more runs nobody sees an order, and comparing their nets takes long."""
_FOLLOWS = (
    "max_iter",
    "test_interval",
    "display",
    "snapshot",
    "stepsize",
    "stepvalue",
    "snapshot_prefix",
    "random_seed",
)
"""Fields of the solver that go with others, or say nothing of the training."""
_RATES = ("base_lr", "weight_decay", "momentum", "gamma", "power", "batch size", "dropout")


@dataclass(frozen=True)
class Look:
    """Of one curve."""

    color: str
    dash: str
    marker: str = ""


def looks(runs: Sequence[Run | Group]) -> list[Look]:
    """The look of each, the same in every picture of these runs.

    Runs that differ in one number only (batch size, learning rate, weight decay, dropout) have colours of one scale
    in its order; those of one batch size that differ in their rate have one colour and several dashes.
    """
    marks = [MARKERS[place % len(MARKERS)] if len(runs) > DISTINCT else "" for place in range(len(runs))]
    numbers = _numbers([run if isinstance(run, Run) else run.runs[0] for run in runs])
    if numbers is None:
        return [Look(*style(place), mark) for place, mark in enumerate(marks)]
    steps = sorted({first for first, _ in numbers})
    found = []
    for (first, second), mark in zip(numbers, marks, strict=True):
        others = sorted({other for one, other in numbers if one == first}, reverse=True)
        dash = DASHES[others.index(second) % len(DASHES)]
        found.append(Look(_between(steps.index(first) / (len(steps) - 1)), dash, mark))
    return found


def _numbers(runs: Sequence[Run]) -> list[tuple[float, float]] | None:
    """The number in which the runs differ, and of one batch size the rate; None where it is not so."""
    if not 2 < len(runs) <= MOST_COMPARED or not all(run.config.net for run in runs):
        return None
    told: dict[str, Sequence[str | None]] = {}
    for row in differences(runs):
        name = row["name"]
        if name in _FOLLOWS or name.startswith("# ") or name.endswith((".batch_size", ".source")):
            continue
        told["dropout" if name.endswith("dropout_ratio") else name] = row["values"]
    known = {name: values for name, some in told.items() if (values := _floats(some)) is not None}
    if not told or len(known) < len(told) or not set(known) <= set(_RATES):
        return None
    if len(known) == 1:
        (values,) = known.values()
        return [(value, 0.0) for value in values] if len(set(values)) > 2 else None
    if set(known) == {"batch size", "base_lr"} and len(set(known["batch size"])) > 2:
        return list(zip(known["batch size"], known["base_lr"], strict=True))
    return None


def _floats(values: Iterable[str | None]) -> list[float] | None:
    try:
        found = [float(value) for value in values if value is not None]
    except ValueError:
        return None
    return found if len(found) == len(list(values)) and all(map(math.isfinite, found)) else None


def _between(part: float) -> str:
    """The colour at so much of the scale, from 0 to 1."""
    place = part * (len(SCALE) - 1)
    low = min(int(place), len(SCALE) - 2)
    pairs = ((SCALE[low][at : at + 2], SCALE[low + 1][at : at + 2]) for at in (1, 3, 5))
    return "#" + "".join(f"{round(int(a, 16) + (int(b, 16) - int(a, 16)) * (place - low)):02x}" for a, b in pairs)
