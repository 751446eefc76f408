"""Plots of runs, fit to be printed. Each ``draw_*`` draws into the axes that it is given, and returns them:

    ax = draw_train_loss(plt.subplots()[1], read_runs("logs"), View(x="epoch"))

Curves may have millions of rows: what is drawn is downsampled (``drawing.downsample``), and no spike is lost.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffebench.analysis.output.drawing.limits import fit, fit_to_ends
from caffebench.analysis.output.drawing.lines import COLUMN, MOST, draw, legend_label, lines_of
from caffebench.analysis.output.drawing.plot_style import window_of
from caffebench.analysis.output.drawing.view import Limits, View, check_limits, usual_x
from caffebench.analysis.runs.groups import Group, group_runs, singles
from caffebench.analysis.runs.model import Run
from caffebench.analysis.stitch.drawn import rates_of
from caffebench.common.errors import InputError
from caffebench.common.files import write_whole
from caffebench.common.messages import Announce

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "FORMATS",
    "PLOTS",
    "View",
    "draw_learning_rate",
    "draw_test_accuracy",
    "draw_test_loss",
    "draw_train_loss",
    "save_plots",
    "usual_x",
]

FORMATS = ("png", "svg", "pdf")


AS_USUAL = View()


def draw_test_accuracy(ax: Axes, runs: Sequence[Run | Group], view: View = AS_USUAL) -> Axes:
    """The accuracy of the tests (``Run.accuracy_choice``), a share of 1.

    The axis opens on where the curves end; a curve that is below all the time has a mark at the lower edge. ``runs``
    are drawn into ``ax``, a group of seeds as its mean with a band; returns ``ax``. Raises ``InputError`` for an
    unknown ``view.x``.
    """
    lines = lines_of(ax, runs, view, lambda run: run.drawn_choice(run.accuracy_choice))
    fit_to_ends(ax, lines)
    return draw(ax, lines, view._replace(log_y=False), "test accuracy", "{:.3f}", best=max)


def draw_test_loss(ax: Axes, runs: Sequence[Run | Group], view: View = AS_USUAL) -> Axes:
    """The loss of the tests (``Run.loss_choice``).

    What runs away or never converged leaves the picture at the top, with a mark there. ``runs`` are drawn into ``ax``,
    a group of seeds as its mean with a band; returns ``ax``. Raises ``InputError`` for an unknown ``view.x``.
    """
    lines = lines_of(ax, runs, view, lambda run: run.drawn_choice(run.loss_choice))
    fit(ax, lines, view.log_y)
    return draw(ax, lines, view, "test loss", "{:#.3g}", best=min)


def draw_train_loss(ax: Axes, runs: Sequence[Run | Group], view: View = AS_USUAL) -> Axes:
    """The loss of the train lines.

    It is shown as its mean over ``view.window`` displayed values, over the faint raw line. ``runs`` are drawn into
    ``ax``, a group of seeds as its mean with a band; returns ``ax``. Raises ``InputError`` for an unknown ``view.x``.
    """
    lines = lines_of(
        ax,
        runs,
        view,
        lambda run: run.drawn("loss", "train"),
        smoothed=lambda curve: view.window or window_of(curve.count),
    )
    fit(ax, lines, view.log_y)
    return draw(ax, lines, view, "train loss", "{:#.3g}", best=min)


def draw_learning_rate(ax: Axes, runs: Sequence[Run | Group], view: View = AS_USUAL) -> Axes:
    """The learning rate, on a logarithmic axis.

    Of runs that share a schedule the later are thinner, so that all are seen. ``runs`` are drawn into ``ax``, a group
    of seeds as its mean with a band; returns ``ax``. Raises ``InputError`` for an unknown ``view.x``.
    """
    lines = lines_of(ax, runs, view, lambda run: rates_of(run.drawn("loss", "train")))
    draw(ax, lines, view._replace(log_y=True), "learning rate", "{:.2g}", best=max, failed=False)
    for place, drawn in enumerate(one for one in ax.lines if one.get_gid() == "curve"):
        drawn.set_drawstyle("steps-post")
        drawn.set_linewidth(1.2 + 2.6 * (1 - (place + 1) / max(1, len(lines))))
    return ax


PLOTS: dict[str, Callable[[Axes, Sequence[Run | Group], View], Axes]] = {
    "test_accuracy": draw_test_accuracy,
    "test_loss": draw_test_loss,
    "train_loss": draw_train_loss,
    "learning_rate": draw_learning_rate,
}
"""Name of each plot's file -> what draws it."""


def save_plots(
    runs: Sequence[Run],
    folder: Path,
    view: View = AS_USUAL,
    *,
    formats: Iterable[str] = ("png",),
    ylims: Mapping[str, Limits] | None = None,
    each: bool = False,
    left_out: Callable[[str], None] | None = None,
) -> list[Path]:
    """Save every plot in each of ``formats`` (``FORMATS``); returns the paths.

    ``ylims`` has the limits of single plots by name. Runs that differ only in their seed are one line with a band,
    unless ``each``. A plot in which no run has anything to be drawn has no file. ``left_out`` is told which plots those
    are, and which runs are not in the others. Raises ``InputError`` for an unknown format or ``view.x``, and where a
    limit of a logarithmic axis is not above 0.
    """
    view = view._replace(x=view.x or usual_x(runs))
    limits = {name: (ylims or {}).get(name, view.ylim) for name in PLOTS}
    check_limits(view, limits)
    groups = singles(runs) if each else group_runs(runs)
    shown = [group if len(group.runs) > 1 or group.apart else group.runs[0] for group in groups]
    missing: dict[str, list[str]] = {}
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = list(dict.fromkeys(formats))
    for form in chosen:
        if form not in FORMATS:
            raise InputError(f"no plot can be saved as {form!r}: choose from {', '.join(FORMATS)}")
    longest = max((len(legend_label(one.label)) + 14 * isinstance(one, Group) for one in shown), default=0)
    columns = math.ceil(min(len(shown), MOST) / COLUMN)
    # The legend stands beside the axes, which keep their size: 0.07 inch a letter, 0.19 a line.
    width = 6.4 + columns * (1.2 + 0.07 * longest)
    height = min(max(4.2, 0.9 + 0.19 * len(shown)), 9.0)
    paths, empty = [], []
    # Text of PDF as TrueType, which publishers ask for; no dates or random names, so that equal runs give equal files.
    with rc_context({"font.size": 10, "pdf.fonttype": 42, "svg.hashsalt": "caffebench"}):
        for name, plot in PLOTS.items():
            figure = Figure(figsize=(width, height), layout="constrained")
            FigureCanvasAgg(figure)
            axes = plot(figure.add_subplot(), shown, view._replace(ylim=limits[name]))
            drawn = {line.get_label() for line in axes.lines if line.get_gid() == "curve"}
            if not _shows(axes):
                empty.append(name)
                continue
            for one in shown:
                if one.name not in drawn:
                    missing.setdefault(one.name, []).append(name)
            for form in chosen:
                buffer = io.BytesIO()
                metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
                figure.savefig(buffer, format=form, dpi=200, metadata=metadata)
                paths.append(folder / f"{name}.{form}")
                write_whole(paths[-1], buffer.getvalue())
    if left_out is not None:
        _announce_missing(missing, empty, [one.name for one in shown], view, left_out)
    return paths


def _shows(ax: Axes) -> bool:
    """Whether a curve has points that its axes can show, and lies at least partly between the limits of the first.

    What lies beyond those of the second has a mark there.
    """
    left, right = ax.get_xlim()

    def seen(values: npt.ArrayLike, scale: str) -> npt.NDArray[np.bool_]:
        found = np.asarray(values, "f8")
        shown: npt.NDArray[np.bool_] = np.isfinite(found) & ((found > 0) | (scale != "log"))
        return shown

    for line in ax.lines:
        if line.get_gid() == "curve":
            x, y = map(np.asarray, line.get_data())
            along = x[seen(x, ax.get_xscale()) & seen(y, ax.get_yscale())]
            if len(along) and along.min() <= right and along.max() >= left:
                return True
    return False


NAMED = 5
"""Runs that are named where they are left out of the same plots; of more their number is said."""


def _announce_missing(
    missing: dict[str, list[str]], empty: Sequence[str], runs: Sequence[str], view: View, announce: Announce
) -> None:
    """One line for all plots without a file, one for all runs that the same other plots lack."""
    unknown = {"epoch": ", or epochs that are not known: --train-size N", "seconds": ", or no times"}
    why = f"no such numbers in the log{unknown.get(view.x or '', '')}"
    if empty:
        reason = why + ", or none above 0 for --log" * (view.log_x or view.log_y)
        if view.xlim is not None:
            reason += f", or none within --xlim {view.xlim[0]:g},{view.xlim[1]:g}"
        announce(f"not drawn: {', '.join(empty)} of {_named(runs)} ({reason})")
    alike: dict[tuple[str, ...], list[str]] = {}
    for run, plots in missing.items():
        alike.setdefault(tuple(plots), []).append(run)
    for group, some in alike.items():
        announce(f"left out of {', '.join(group)}: {_named(some)} ({why})")


def _named(runs: Sequence[str]) -> str:
    return ", ".join(runs[:NAMED]) + (f" and {len(runs) - NAMED} more" if len(runs) > NAMED else "")
