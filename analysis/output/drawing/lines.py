"""What all plots have in common: curves, axes, marks, and the legend."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from caffebench.analysis.output.drawing.downsample import Numbers, downsample, smooth
from caffebench.analysis.output.drawing.looks import Look, looks
from caffebench.analysis.output.drawing.plot_style import final
from caffebench.analysis.output.drawing.view import View, members, usual_x
from caffebench.analysis.runs.groups import Group
from caffebench.analysis.runs.model import Run
from caffebench.analysis.stitch.drawn import Curve, Drawn
from caffebench.common.errors import InputError
from caffebench.common.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["COLUMN", "MOST", "Line", "draw", "legend_label", "lines_of"]

AXES = {"iteration": "iterations", "epoch": "epochs", "seconds": "training time"}
DASHES: dict[str, Any] = {"solid": "solid", "dash": (0, (5, 1.8)), "dot": (0, (1.2, 1.5))}
PIXELS = 1500
"""Buckets that a curve is thinned to: more than a printed column has dots that an eye tells apart."""
LONGEST = 42
"""Characters of a run's name in a legend."""
MOST = 60
"""Runs that a legend names; of more it names the first and says how many there are."""
COLUMN = 40
"""Lines of one column of a legend."""


@dataclass
class Line:
    """One curve, ready to be drawn: ``x`` in the unit of the axis, and the raw values behind a smoothed line."""

    run: Run | Group
    place: int
    look: Look
    x: Numbers
    y: Numbers
    iteration: Numbers
    raw: tuple[Numbers, Numbers] | None = None
    spread: Numbers | None = None
    """Standard deviation over the runs of a group, at each point."""
    runs: int = 1
    """Runs that it is the mean of."""

    @property
    def raw_line(self) -> tuple[Numbers, Numbers]:
        """Its raw line, or itself where it is not smoothed."""
        return self.raw or (self.x, self.y)

    @property
    def last(self) -> float | None:
        """The value at the end; None where the run did not converge, or it is no number."""
        return final(float(self.y[-1]), self.run)


def lines_of(
    ax: Axes,
    runs: Sequence[Run | Group],
    view: View,
    curves: Callable[[Run], Drawn | None],
    smoothed: Callable[[Drawn], int] = lambda _: 1,
) -> list[Line]:
    """The curves against ``view.x``, in the unit that suits the longest of them, which is named at the axis.

    ``curves`` gives a run's curve; of a group the mean of its members' is drawn. ``smoothed`` says over how many points
    a curve is to be smoothed. Raises ``InputError`` for an unknown ``view.x``.
    """
    x = view.x or usual_x(runs)
    if x not in AXES:
        raise InputError(f"a plot cannot be against {x!r}: choose from {', '.join(AXES)}")
    lines = []
    for place, (run, look) in enumerate(zip(runs, looks(runs), strict=True)):
        some = [curve for one in members(run) if (curve := curves(one)) is not None]
        line = _mean([_line(run, place, look, curve, x, smoothed) for curve in some])
        if line is not None:
            lines.append(line)
    ax.set_xlabel(AXES[x])
    if x == "seconds":
        longest = max((float(line.x[-1]) for line in lines), default=0.0)
        unit, title = (3600, "hours") if longest > 7200 else (60, "minutes") if longest > 300 else (1, "seconds")
        ax.set_xlabel(f"{AXES[x]}, {title}")
        for line in lines:
            line.x = line.x / unit
            line.raw = line.raw and (line.raw[0] / unit, line.raw[1])
    return lines


def _line(
    run: Run | Group, place: int, look: Look, curve: Drawn, x: str, smoothed: Callable[[Drawn], int]
) -> Line | None:
    shown, size = _known(curve.envelope, x), smoothed(curve) // curve.group
    raw = None
    if size > 1:
        raw = (getattr(shown, x).astype("f8"), shown.value)
        shown = _known(curve.group_means, x)
        shown = replace(shown, value=smooth(shown.value, size))
    if not len(shown):
        return None
    return Line(run, place, look, getattr(shown, x).astype("f8"), shown.value, shown.iteration, raw)


def _mean(lines: Sequence[Line | None]) -> Line | None:
    """The mean of the lines of a group wherever half of them have a value, and the standard deviation of two or more.

    A line has a value at each iteration from its first to its last, between its points that of the straight line.
    ``meanOf`` of the page does the same.
    """
    known = [line for line in lines if line is not None]
    if len(known) < 2:
        return known[0] if known else None
    iterations = np.unique(np.concatenate([line.iteration for line in known]))
    values = np.stack([_at(iterations, line, line.y) for line in known])
    count = np.isfinite(values).sum(axis=0)
    enough = 2 * count >= len(known)
    if not enough.any():
        return None
    ends = np.flatnonzero(enough)[[0, -1]]
    kept = slice(ends[0], ends[1] + 1)
    along = _mean_place(np.stack([_at(iterations, line, line.x)[kept] for line in known]))
    some = np.ma.masked_invalid(np.where(enough, values, np.nan)[:, kept])
    mean, spread = some.mean(axis=0).filled(np.nan), some.std(axis=0, ddof=1).filled(np.nan)
    return replace(
        known[0],
        x=along,
        y=mean,
        iteration=iterations[kept],
        raw=None,
        spread=spread if np.isfinite(spread).any() else None,
        runs=int(count[ends[1]]),
    )


def _at(iterations: Numbers, line: Line, column: Numbers) -> Numbers:
    """``column`` of ``line`` at each of ``iterations``; NaN before the line's first point and after its last."""
    known, index = np.unique(line.iteration, return_index=True)
    found: Numbers = np.interp(iterations, known, column[index], np.nan, np.nan)
    return found


def _mean_place(places: Numbers) -> Numbers:
    """Where the lines (lines x points, NaN where one has no point) are on the axis, in the mean.

    From point to point it goes as far as those go that have both: it does not fall back where a slow one ends.
    """
    mean = np.ma.masked_invalid(places).mean(axis=0)
    steps = np.ma.masked_invalid(np.diff(places)).mean(axis=0)
    steps = np.where(np.ma.getmaskarray(steps), np.maximum(np.diff(mean), 0), steps)
    return np.cumsum(np.concatenate([mean[:1], steps]))


def _known(curve: Curve, x: str) -> Curve:
    """The points whose place on the axis is known."""
    return curve[~np.isnan(getattr(curve, x))]


def draw(
    ax: Axes,
    lines: Sequence[Line],
    view: View,
    title: str,
    form: str,
    best: Callable[[float, float], float],
    failed: bool = True,
) -> Axes:
    """Draw the curves with their raw lines, marks and legend, which is ordered by the last value, the ``best`` first.

    ``form`` formats the last values; runs that did not converge have none, unless ``failed`` is false.
    """
    faint = 0.3 / (1 + len(lines) / 12)
    if view.ylim is not None:
        ax.set_ylim(*view.ylim)
    drawn = {}
    for line in lines:
        color = line.look.color
        if line.raw is not None:
            along, raw = line.raw
            kept = downsample(along, raw, PIXELS, log=view.log_x)
            ax.plot(along[kept], raw[kept], color=color, alpha=faint, lw=0.6, zorder=1.5, gid="raw", rasterized=True)
        kept = downsample(line.x, line.y, PIXELS, log=view.log_x)
        marked = line.look.marker or ("o" if len(kept) == 1 else "")
        (drawn[line.place],) = ax.plot(
            line.x[kept],
            line.y[kept],
            color=color,
            linestyle=DASHES[line.look.dash],
            marker=marked,
            # Some eight on each curve, at other places than those of the curve before.
            markevery=(line.place % 8 / 64, 0.125) if marked and len(kept) > 8 else None,
            markersize=4,
            lw=1.5 if len(lines) <= 8 else 1.2,
            zorder=2.5,
            gid="curve",
            label=line.run.name,
        )
        if line.spread is not None:
            low, high = line.y - line.spread, line.y + line.spread
            ax.fill_between(line.x, low, high, color=color, alpha=0.18, lw=0, zorder=1.8, gid="band")
        _mark_runaway(ax, line, color, view)
        if view.resumes:
            _mark_resumes(ax, line, color)
    ax.set_ylabel(title)
    _dress(ax, view)
    # Ordered by the last value; what has none comes last, in the order given.
    sign = -1 if best is max else 1
    last = {line.place: line.last if failed else float(line.y[-1]) for line in lines}
    order = sorted(lines, key=lambda line: (last[line.place] is None, sign * (last[line.place] or 0.0), line.place))
    handles: list[Any] = [drawn[line.place] for line in order]
    values = ["n/c" if last[line.place] is None else form.format(last[line.place]).rstrip(".") for line in order]
    labels = [_label(line, value) for value, line in zip(values, order, strict=True)]
    if len(handles) > MOST:
        labels = [*labels[:MOST], f"and {len(handles) - MOST} more"]
        handles = [*handles[:MOST], ax.plot([], [], "", gid="key")[0]]
    if view.resumes and any(one.get_gid() == "resumes" for one in ax.lines):
        handles.append(ax.plot([], [], "o", mfc="white", mec="#555555", ms=5, gid="key")[0])
        labels.append("resumed")
    if any(line.spread is not None for line in lines):
        handles.append(ax.fill_between([], [], [], color="#555555", alpha=0.25, lw=0, gid="key"))
        labels.append("± standard deviation over seeds")
    if handles:
        box = ax.legend(
            handles,
            labels,
            title="last value, run",
            alignment="left",
            loc="upper left",
            bbox_to_anchor=(1.01, 1.015),
            borderaxespad=0,
            frameon=False,
            fontsize="small" if len(handles) <= 30 else "x-small",
            title_fontsize="small",
            handlelength=2.6,
            ncols=math.ceil(len(handles) / COLUMN),
        )
        for text in box.get_texts():
            text.set_parse_math(False)  # a $ in a run's name is a $
    return ax


def _label(line: Line, value: str) -> str:
    """Last value and name; of a group the spread too, and of how many of its runs the curve is."""
    label = legend_label(line.run.label)
    if isinstance(line.run, Run) or len(line.run.runs) == 1:
        return f"{value}  {label}"
    decimals, runs = len(value.partition(".")[2]), len(line.run.runs)
    end = math.nan if line.spread is None else float(line.spread[-1])
    spread = f" ± {end:.{decimals}f}" if math.isfinite(end) and value != "n/c" else ""
    return f"{value}{spread}  {label} ({line.runs}{f' of {runs}' if line.runs < runs else ''})"


def _mark_runaway(ax: Axes, line: Line, color: str, view: View) -> None:
    """A triangle at the edge wherever the curve leaves the picture; at the lower one where all of it is below."""
    if ax.get_autoscaley_on():
        return
    bottom, top = ax.get_ylim()
    along, values = line.raw_line
    left, right = view.xlim or (-math.inf, math.inf)
    shown = (along >= left) & (along <= right) & ((along > 0) | (not view.log_x))  # a mark elsewhere is in no axes
    along, values = along[shown], values[shown]
    outside = ~(values <= top) & ~np.isnan(values)
    leaves = np.flatnonzero(outside & ~np.concatenate([[False], outside[:-1]]))
    if len(leaves):
        marks = leaves[downsample(along[leaves], values[leaves], 40)]
        ax.plot(along[marks], np.full(len(marks), top), "^", color=color, ms=4, clip_on=False, zorder=4, gid="runaway")
    elif len(values) and not (values >= bottom).any():
        ax.plot(along[-1:], [bottom], "v", color=color, ms=4, clip_on=False, zorder=4, gid="runaway")


def _mark_resumes(ax: Axes, line: Line, color: str) -> None:
    places = []
    for session in line.run.sessions if isinstance(line.run, Run) else ():
        if session.resumed_from is not None and session.trained:
            place = int(np.searchsorted(line.iteration, session.resumed_from))
            if place < len(line.x):
                places.append(place)
    if places:
        ax.plot(line.x[places], line.y[places], "o", mfc="white", mec=color, ms=5, mew=1.3, zorder=3, gid="resumes")


def _dress(ax: Axes, view: View) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    right = max((float(np.asarray(one.get_xdata())[-1]) for one in ax.lines if one.get_gid() == "curve"), default=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where no value is above 0; such a plot is not saved
        if view.log_x:
            ax.set_xscale("log")
        if view.log_y:
            ax.set_yscale("log")
    if not view.log_x:
        ax.set_xlim(0, right * 1.01 or 1)
        ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # no 1.25K
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    if view.xlim is not None:
        ax.set_xlim(*view.xlim)
    if view.log_x:
        _name_ticks(ax.xaxis, *ax.get_xlim())
    if view.log_y:
        _name_ticks(ax.yaxis, *ax.get_ylim())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.grid(color="#e3e6ea", lw=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#8c959f")
    ax.tick_params(color="#8c959f")


def _name_ticks(axis: Axis, low: float, high: float) -> None:
    """Of less than three decades 1, 2 and 5 of each are named, too; of less than one, even steps."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    span = high / max(low, 1e-300)
    if span < 300:
        axis.set_major_locator(MaxNLocator(8) if span < 8 else LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """100K for 100,000, as people write iterations."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def legend_label(label: str) -> str:
    """A run's name for a legend: printable, and cut in the middle where it is long."""
    clean = printable(label)
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST * 2 // 3]}…{clean[-(LONGEST // 3) + 1 :]}"
