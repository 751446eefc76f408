"""Plots of runs, fit to be printed. Each ``draw_*`` draws into the axes that it is given, and returns them:

    ax = draw_train_loss(plt.subplots()[1], read_runs("logs"), x="epoch")

Curves may have millions of rows: what is drawn is thinned (``caffebench.analysis.thin``), no spike is lost.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caffebench.analysis.look import final, style, window_of
from caffebench.analysis.model import Run
from caffebench.analysis.thin import Numbers, smooth, thin
from caffebench.common.errors import InputError
from caffebench.common.files import write_whole

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

__all__ = [
    "FORMATS",
    "PLOTS",
    "draw_learning_rate",
    "draw_test_accuracy",
    "draw_test_loss",
    "draw_train_loss",
    "save_plots",
]

FORMATS = ("png", "svg", "pdf")
AXES = {"iteration": "iterations", "epoch": "epochs", "seconds": "training time"}
DASHES: dict[str, Any] = {"solid": "solid", "dash": (0, (5, 1.8)), "dot": (0, (1.2, 1.5))}
PIXELS = 1500
"""Buckets that a curve is thinned to: more than a printed column has dots that an eye tells apart."""
LONGEST = 42
"""Characters of a run's name in a legend."""
RUNAWAY = 1.5
"""A loss beyond so many times what 99 % of its values stay below leaves the picture, with a mark where it does."""


@dataclass
class _Line:
    """One curve, ready to be drawn: ``x`` in the unit of the axis, the line itself, and the raw values behind it."""

    run: Run
    place: int
    x: Numbers
    y: Numbers
    raw: Numbers | None
    session: Numbers
    iteration: Numbers

    @property
    def last(self) -> float | None:
        """The value at the end; None where the run did not converge, or it is no number."""
        return final(float(self.y[-1]), self.run)


def draw_test_accuracy(
    ax: Axes,
    runs: Sequence[Run],
    x: str = "iteration",
    *,
    log_x: bool = False,
    log_y: bool = False,
    resumes: bool = False,
) -> Axes:
    """Accuracy of test net 0 (top-1 before top-5) against ``x``: iteration, epoch or seconds of training."""
    rows = [run.curve(run.accuracy_metric) if run.accuracy_metric else None for run in runs]
    lines = _lines(ax, runs, rows, x)
    return _draw(ax, lines, "test accuracy", "{:.3f}", log_x, log_y, resumes, best=max)


def draw_test_loss(
    ax: Axes,
    runs: Sequence[Run],
    x: str = "iteration",
    *,
    log_x: bool = False,
    log_y: bool = False,
    resumes: bool = False,
) -> Axes:
    """Loss of test net 0. What runs away or never converged leaves the picture at the top, with a mark there."""
    rows = [run.curve(run.loss_metric) if run.loss_metric else None for run in runs]
    lines = _lines(ax, runs, rows, x)
    _limit(ax, lines, log_y)
    return _draw(ax, lines, "test loss", "{:#.3g}", log_x, log_y, resumes, best=min)


def draw_train_loss(
    ax: Axes,
    runs: Sequence[Run],
    x: str = "iteration",
    *,
    log_x: bool = False,
    log_y: bool = False,
    resumes: bool = False,
    window: int | None = None,
) -> Axes:
    """The loss of the train lines: its mean over ``window`` displayed values, over the faint raw line.

    The default window is a hundredth of each run, at least 5 values; 1 draws the raw line alone.
    """
    lines = _lines(ax, runs, [run.curve("loss", "train") for run in runs], x)
    for line in lines:
        size = window or window_of(len(line.y))
        if size > 1:
            line.raw, line.y = line.y, smooth(line.y, size)
    _limit(ax, lines, log_y)
    return _draw(ax, lines, "train loss", "{:#.3g}", log_x, log_y, resumes, best=min)


def draw_learning_rate(
    ax: Axes,
    runs: Sequence[Run],
    x: str = "iteration",
    *,
    log_x: bool = False,
    log_y: bool = True,
    resumes: bool = False,
) -> Axes:
    """The learning rate. Of runs that share a schedule the later ones are drawn thinner, so that all are seen."""
    rows = [run.curve("loss", "train").drop_nulls("lr").with_columns(value="lr") for run in runs]
    lines = _lines(ax, runs, rows, x)
    _draw(ax, lines, "learning rate", "{:.2g}", log_x, log_y, resumes, best=max, failed=False)
    for place, drawn in enumerate(one for one in ax.lines if one.get_gid() == "curve"):
        drawn.set_drawstyle("steps-post")
        drawn.set_linewidth(1.2 + 2.6 * (1 - (place + 1) / max(1, len(lines))))
    return ax


PLOTS: dict[str, Callable[..., Axes]] = {
    "test_accuracy": draw_test_accuracy,
    "test_loss": draw_test_loss,
    "train_loss": draw_train_loss,
    "learning_rate": draw_learning_rate,
}
"""Name of each plot's file -> what draws it."""


def _lines(ax: Axes, runs: Sequence[Run], curves: Iterable[pl.DataFrame | None], x: str) -> list[_Line]:
    if x not in AXES:
        raise InputError(f"a plot cannot be against {x!r}: choose from {', '.join(AXES)}")
    lines = []
    for place, (run, rows) in enumerate(zip(runs, curves, strict=True)):
        rows = None if rows is None else rows.drop_nulls([x, "value"])
        if rows is None or rows.is_empty():
            continue
        along, values, sessions, iterations = (
            rows[name].to_numpy().astype("f8") for name in (x, "value", "session", "iteration")
        )
        lines.append(_Line(run, place, along, values, None, sessions, iterations))
    ax.set_xlabel(AXES[x])
    if x == "seconds":
        longest = max((float(line.x[-1]) for line in lines), default=0.0)
        unit, title = (3600, "hours") if longest > 7200 else (60, "minutes") if longest > 300 else (1, "seconds")
        ax.set_xlabel(f"{AXES[x]}, {title}")
        for line in lines:
            line.x = line.x / unit
    return lines


def _limit(ax: Axes, lines: Sequence[_Line], log: bool) -> None:
    """Fit the loss axis to the runs that converged: one that did not must not press them flat."""
    good = [line for line in lines if line.run.status != "not_converged"] or lines
    every = [(line.y if line.raw is None else line.raw) for line in good]
    every = [values for values in (one[np.isfinite(one) & ((one > 0) | (not log))] for one in every) if len(values)]
    if not every:
        return
    low = min(float(values.min()) for values in every)
    high = max(min(float(values.max()), RUNAWAY * float(np.quantile(values, 0.99))) for values in every)
    if not low < high:
        return
    if log:
        ax.set_ylim(low / 1.1, high * 1.1)
    else:
        pad = 0.04 * (high - low)
        ax.set_ylim(max(low - pad, 0.0) if low >= 0 else low - pad, high + pad)


def _draw(
    ax: Axes,
    lines: Sequence[_Line],
    title: str,
    form: str,
    log_x: bool,
    log_y: bool,
    resumes: bool,
    best: Callable[[float, float], float],
    failed: bool = True,
) -> Axes:
    faint = 0.3 / (1 + len(lines) / 12)
    drawn = {}
    for line in lines:
        color, dash = style(line.place)
        if line.raw is not None:
            kept = thin(line.x, line.raw, PIXELS, log=log_x)
            ax.plot(
                line.x[kept], line.raw[kept], color=color, alpha=faint, lw=0.6, zorder=1.5, gid="raw", rasterized=True
            )
        kept = thin(line.x, line.y, PIXELS, log=log_x)
        (drawn[line.place],) = ax.plot(
            line.x[kept],
            line.y[kept],
            color=color,
            linestyle=DASHES[dash],
            marker="o" if len(kept) == 1 else "",
            markersize=4,
            lw=1.5 if len(lines) <= 8 else 1.2,
            zorder=2.5,
            gid="curve",
        )
        _mark_runaway(ax, line, color)
        if resumes:
            _mark_resumes(ax, line, color)
    ax.set_ylabel(title)
    _dress(ax, log_x, log_y)
    # Ordered by the last value; what has none comes last, in the order given.
    sign = -1 if best is max else 1
    last = {line.place: line.last if failed else float(line.y[-1]) for line in lines}
    order = sorted(lines, key=lambda line: (last[line.place] is None, sign * (last[line.place] or 0.0), line.place))
    handles = [drawn[line.place] for line in order]
    values = ["n/c" if last[line.place] is None else form.format(last[line.place]).rstrip(".") for line in order]
    labels = [f"{value}  {_named(line.run.label)}" for value, line in zip(values, order, strict=True)]
    if resumes and any(one.get_gid() == "resumes" for one in ax.lines):
        handles.append(ax.plot([], [], "o", mfc="white", mec="#555555", ms=5, gid="key")[0])
        labels.append("resumed")
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
            ncols=math.ceil(len(handles) / 40),
        )
        for text in box.get_texts():
            text.set_parse_math(False)  # a $ in a run's name is a $
    return ax


def _mark_runaway(ax: Axes, line: _Line, color: str) -> None:
    """A triangle at the upper edge wherever the curve leaves the picture."""
    if ax.get_autoscaley_on():
        return
    top = ax.get_ylim()[1]
    values = line.y if line.raw is None else line.raw
    outside = ~(values <= top) & ~np.isnan(values)
    leaves = np.flatnonzero(outside & ~np.concatenate([[False], outside[:-1]]))
    if len(leaves):
        marks = leaves[thin(line.x[leaves], values[leaves], 40)]
        ax.plot(line.x[marks], np.full(len(marks), top), "^", color=color, ms=4, clip_on=False, zorder=4, gid="runaway")


def _mark_resumes(ax: Axes, line: _Line, color: str) -> None:
    places = []
    for session in line.run.sessions:
        if session.resumed_from is not None and session.trained:
            place = int(np.searchsorted(line.iteration, session.resumed_from))
            if place < len(line.x):
                places.append(place)
    if places:
        ax.plot(line.x[places], line.y[places], "o", mfc="white", mec=color, ms=5, mew=1.3, zorder=3, gid="resumes")


def _dress(ax: Axes, log_x: bool, log_y: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    right = max((float(np.asarray(one.get_xdata())[-1]) for one in ax.lines if one.get_gid() == "curve"), default=1.0)
    if log_x:
        ax.set_xscale("log")
    else:
        ax.set_xlim(0, right * 1.01 or 1)
        ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # no 1.25K
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    if log_y:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high / max(low, 1e-300) < 300:
            # Less than three decades: 1, 2 and 5 of each are named too; of less than one, even steps.
            near = high / max(low, 1e-300) < 8
            ax.yaxis.set_major_locator(MaxNLocator(8) if near else LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(color="#e3e6ea", lw=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#8c959f")
    ax.tick_params(color="#8c959f")


def _short(value: float) -> str:
    """100K for 100,000, as people write iterations."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _named(label: str) -> str:
    clean = "".join(letter if letter.isprintable() else "?" for letter in label)
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST * 2 // 3]}…{clean[-(LONGEST // 3) + 1 :]}"


def save_plots(
    runs: Sequence[Run],
    folder: Path,
    x: str = "iteration",
    *,
    formats: Iterable[str] = ("png",),
    log_x: bool = False,
    log_y: bool = False,
    resumes: bool = False,
    window: int | None = None,
) -> list[Path]:
    """Save every plot in each of ``formats`` (``FORMATS``); returns the paths.

    ``log_y`` concerns the losses; the learning rate is always on a logarithmic axis. Raises ``InputError`` for an
    unknown format or ``x``.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = list(dict.fromkeys(formats))
    for one in chosen:
        if one not in FORMATS:
            raise InputError(f"no plot can be saved as {one!r}: choose from {', '.join(FORMATS)}")
    longest = max((len(_named(run.label)) for run in runs), default=0)
    columns = math.ceil(len(runs) / 40)
    # The legend stands beside the axes, which keep their size: 0.07 inch a letter, 0.19 a line.
    width = 6.4 + columns * (1.2 + 0.07 * longest)
    height = min(max(4.2, 0.9 + 0.19 * len(runs)), 9.0)
    paths = []
    # Text of PDF as TrueType, which publishers ask for; no dates or random names, so that equal runs give equal files.
    with rc_context({"font.size": 10, "pdf.fonttype": 42, "svg.hashsalt": "caffebench"}):
        for name, draw in PLOTS.items():
            figure = Figure(figsize=(width, height), layout="constrained")
            FigureCanvasAgg(figure)
            more = {"window": window} if name == "train_loss" else {}
            if name in ("test_loss", "train_loss"):
                more["log_y"] = log_y
            draw(figure.add_subplot(), runs, x, log_x=log_x, resumes=resumes, **more)
            for one in chosen:
                buffer = io.BytesIO()
                metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(one)
                figure.savefig(buffer, format=one, dpi=200, metadata=metadata)
                paths.append(folder / f"{name}.{one}")
                write_whole(paths[-1], buffer.getvalue())
    return paths
