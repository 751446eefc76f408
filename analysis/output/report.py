"""``report.html``: the table, the curves, sessions and configurations of runs on one page that works offline.

The page is one file: Plotly's JavaScript (of the Python package ``plotly``), the data as JSON and our own script are
all in it, and its Content-Security-Policy keeps it from asking any network for anything. Names from logs get into the
page only as JSON and are shown only as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from caffebench.analysis.output.drawing.downsample import downsample
from caffebench.analysis.output.drawing.looks import Look, looks
from caffebench.analysis.output.drawing.plot_style import final, window_of
from caffebench.analysis.output.table.results_table import TableRow, table_rows
from caffebench.analysis.runs.configurations import differences, net_text, settings
from caffebench.analysis.runs.groups import group_runs, singles
from caffebench.analysis.runs.model import Run, Session
from caffebench.analysis.stitch.drawn import Curve, Drawn, binned, rates_of
from caffebench.common.extras import needs_extra
from caffebench.common.files import write_whole

__all__ = ["report_data", "report_html", "write_report"]

BUCKETS = 500
"""Pixels that a curve of the report is at most resolved to, 4 points each."""
POINTS = 300_000
"""Points in the page, about, when runs are many: some 10 MB."""
FEWEST = 25
AXES = ("iteration", "epoch", "seconds")


def write_report(
    runs: Sequence[Run], path: Path, *, x: str = "iteration", reload: float | None = None, each: bool = False
) -> None:
    """Write the report of ``runs``, its curves against ``x`` at first; seeds are drawn together unless ``each``.

    With ``reload`` the open page looks for news every so many seconds, and shows the same view of them.

    Raises ``InputError`` where Plotly is not installed.
    """
    write_whole(path, report_html(runs, x=x, reload=reload, each=each))


def report_html(runs: Sequence[Run], *, x: str = "iteration", reload: float | None = None, each: bool = False) -> str:
    """The page as text. Raises ``InputError`` where Plotly is not installed."""
    from jinja2 import Environment

    with needs_extra("web", "the report needs Plotly"):
        from plotly.offline import get_plotlyjs
    parts = resources.files("caffebench.analysis.output") / "page"
    page = Environment(autoescape=True, keep_trailing_newline=True).from_string(
        (parts / "report.html.j2").read_text("utf-8")
    )
    data = {**report_data(runs), "x": x, "reload": reload, "seeds": not each}
    return page.render(
        plotly=get_plotlyjs().replace("</script", "<\\/script"),
        style=(parts / "report.css").read_text("utf-8"),
        script=(parts / "report.js").read_text("utf-8"),
        # "<" only stands within strings of JSON: so no name can end the element that the data are in.
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def report_data(runs: Sequence[Run]) -> dict[str, Any]:
    """All that the page shows, as plain data for JSON: no NaN or infinity is in it (None stands for both)."""
    from importlib.metadata import version

    offered = [_offered(run) for run in runs]
    buckets = max(FEWEST, min(BUCKETS, POINTS // (6 * max(1, sum(map(len, offered))))))
    metrics = []
    thinned = False
    for title in sorted(dict.fromkeys(title for one in offered for title in one), key=_rank):
        series: dict[int, Any] = {}
        for place, one in enumerate(offered):
            if title in one:
                curve = one[title]()
                if curve is not None and len(curve.envelope):
                    series[place], less = _series(curve, title, buckets)
                    thinned = thinned or less
        if series:
            metrics.append({"title": title, "curves": series})
    nets = list(dict.fromkeys(net_text(run) for run in runs))
    groups = group_runs(runs)
    together = {run.name: look for group, look in zip(groups, looks(groups), strict=True) for run in group.runs}
    return {
        "version": version("caffebench"),
        "made": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "runs": [
            _run(run, one.label, line, look, together[run.name], nets)
            for run, one, line, look in zip(runs, singles(runs), table_rows(runs, each=True), looks(runs), strict=True)
        ],
        "groups": _groups(runs),
        "metrics": metrics,
        "nets": nets,
        "differences": differences(runs) if len(runs) > 1 else [],
        "thinned": buckets if thinned else None,
    }


def _groups(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs that differ only in their seed: their label, and the places of those that the mean is taken over."""
    places = {run.name: place for place, run in enumerate(runs)}
    return [
        {
            "label": group.label,
            "runs": [places[run.name] for run in group.runs],
            "mean": [places[run.name] for run in group.converged or group.runs],
        }
        for group in group_runs(runs)
        if len(group.runs) > 1
    ]


Source = Callable[[], Drawn | None]
"""Gives a curve of a run when it is asked for."""

MAIN = ("test accuracy", "test loss", "train loss", "learning rate")
"""Curves that runs have in common, whatever their nets call them; the others go by the names of the nets' outputs."""


def _offered(run: Run) -> dict[str, Source]:
    """Title -> where the curve is."""
    found: dict[str, Source] = {}
    chosen = {"test accuracy": run.accuracy_choice, "test loss": run.loss_choice}
    found.update({title: partial(run.drawn_choice, choice) for title, choice in chosen.items() if choice})
    trained = [name for name, _ in run.stitched.named("train")]
    if "loss" in trained:
        found["train loss"] = partial(run.drawn, "loss", "train")
        found["learning rate"] = lambda: rates_of(run.drawn("loss", "train"))
    main = {(choice.net, choice.name) for choice in chosen.values() if choice}
    for output in run.test_outputs:
        if (output.net, output.name) not in main:
            where = f"test net {output.net}" if output.net else "test"
            found[f"{where}: {output.name}"] = partial(run.drawn, output.name, "test", output.net)
    found.update({f"train: {name}": partial(run.drawn, name, "train") for name in trained if name != "loss"})
    return found


def _rank(title: str) -> tuple[Any, ...]:
    return MAIN.index(title) if title in MAIN else len(MAIN), title


def _series(curve: Drawn, title: str, buckets: int) -> tuple[dict[str, Any], bool]:
    """The curve for the page, and whether it was thinned: columns ``AXES`` and value, and of a train curve those of its
    evenly spaced means."""
    rows = curve.envelope
    if title == "learning rate":
        # Of a rate that stays, both ends are enough.
        turns = np.flatnonzero(np.diff(rows.value))
        rows = rows[np.unique(np.concatenate([[0], turns, turns + 1, [len(rows) - 1]]))]
        places = downsample(rows.iteration, rows.value, buckets)
        return _columns(rows[places]), len(places) < len(rows)
    places = downsample(rows.iteration, rows.value, buckets)
    made = _columns(rows[places])
    window = window_of(curve.count)
    if title.startswith("train") and window > 1:
        # The page takes the mean over neighbours, over as many as one asks for; over ``share`` of the curve at first.
        made["means"] = _columns(binned(curve.group_means, buckets))
        made["share"] = _rounded(window / curve.count)
    return made, len(places) < curve.count


def _columns(rows: Curve) -> dict[str, Any]:
    made: dict[str, Any] = {"value": [_rounded(one) for one in rows.value.tolist()]}
    for axis in AXES:
        column = getattr(rows, axis).tolist()
        if any(one == one for one in column):
            made[axis] = [one if isinstance(one, int) else _rounded(one, 7) for one in column]
    return made


def _rounded(value: float | None, digits: int = 6) -> float | None:
    """Six digits are all that Caffe prints."""
    if value is None or not np.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _run(run: Run, label: str, line: TableRow, look: Look, together: Look, nets: Sequence[str]) -> dict[str, Any]:
    best = run.best or (None, None)
    return {
        "name": run.name,
        "label": label,
        "sweep": run.sweep,
        "status": run.status,
        "reason": run.reason,
        "converged": run.status != "not_converged",
        "accuracy": _rounded(final(run.accuracy, run)),
        "loss": _rounded(final(run.loss, run)),
        "best": _rounded(best[0]),
        "best_iteration": best[1],
        "iteration": run.iteration,
        "max_iter": run.max_iter,
        "epochs": _rounded(run.epochs),
        "seconds": _rounded(run.seconds, 7),
        "wall": _rounded((run.seconds or 0.0) + run.lost_seconds, 7),
        "crashes": run.crashes,
        "lost": run.lost_iterations,
        "bad_lines": run.bad_lines,
        "published": [
            _beside(line.published_accuracy, line.accuracy_difference),
            _beside(line.published_loss, line.loss_difference),
        ],
        "comment": line.comment,
        "color": look.color,
        "dash": look.dash,
        "seeds_color": together.color,
        "seeds_dash": together.dash,
        "sources": run.sources,
        "sessions": [_session(one) for one in run.sessions],
        "settings": settings(run),
        "net": nets.index(net_text(run)),
    }


def _beside(published: str, difference: str) -> str:
    return f"{published} ({difference})" if difference else published


def _session(session: Session) -> dict[str, Any]:
    return {
        "number": session.number,
        "source": session.source,
        "began": _moment(session.began),
        "finished": _moment(session.finished),
        "resumed_from": session.resumed_from,
        "weights": session.weights,
        "first": session.first_iteration,
        "last": session.last_iteration,
        "ended": session.ended,
        "reason": session.reason,
        "lost": session.lost_iterations,
        "seconds": _rounded(session.seconds, 7),
        "restored": list(session.restored),
        "not_restored": list(session.not_restored),
    }


def _moment(moment: datetime | None) -> str | None:
    """Logs of glog before 0.5 tell no year (``Session.began``): then only month and day."""
    if moment is None:
        return None
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment.year > 1970 else f"{moment:%m-%d %H:%M:%S}"
