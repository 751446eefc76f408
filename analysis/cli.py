"""The command ``merge-logs``."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from caffebench.common.cli import command
from caffebench.common.messages import announce, detail
from caffebench.common.printable import printable
from caffebench.common.terminal import wrapped

__all__ = ["main"]


def _several(*words: str) -> Callable[[click.Context, click.Parameter, str | None], tuple[str, ...]]:
    """The callback of an option that takes some of ``words`` with commas between, one at least."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
        if value is None:
            return ()
        chosen = tuple(one.strip() for one in value.split(",") if one.strip())
        if not chosen:
            raise click.BadParameter(f"{value!r} names none: choose from {', '.join(words)}", ctx, param)
        for one in chosen:
            if one not in words:
                raise click.BadParameter(f"{one!r} is not one of {', '.join(words)}", ctx, param)
        return chosen

    return convert


def _limits(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """``0,50`` as two numbers."""
    if value is None:
        return None
    try:
        low, high = map(float, value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not LOW,HIGH, as in 0.4,0.9", ctx, param) from None
    if not low < high or not math.isfinite(high - low):
        raise click.BadParameter(f"{value!r}: the first must be less than the second", ctx, param)
    return low, high


def _limits_by_plot(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """``test_loss=0,2`` by plot; limits without a name are of the test accuracy."""
    plots = ("test_accuracy", "test_loss", "train_loss", "learning_rate")
    found = {}
    for one in value:
        name, equals, limits = one.rpartition("=")
        name = name if equals else plots[0]
        if name not in plots:
            raise click.BadParameter(f"{name!r} is no plot: choose from {', '.join(plots)}", ctx, param)
        if (both := _limits(ctx, param, limits)) is not None:
            found[name] = both
    return found


def _matching(pattern: str) -> list[Path]:
    """The file of that name, else those that the pattern fits, else the name."""
    found = [] if Path(pattern).exists() else sorted(glob.glob(pattern))
    return list(map(Path, found or [pattern]))


def _run_files(named: tuple[str, ...]) -> dict[str, list[Path]]:
    """Files by name of their run."""
    files: dict[str, list[Path]] = {}
    for one in named:
        name, equals, some = one.partition("=")
        whole = bool(some) and Path(some).exists()  # a name may have commas in it
        patterns = [some] if whole else some.split(",")
        chosen = [path for pattern in patterns if pattern for path in _matching(pattern)]
        if not name or not equals or not chosen:
            raise click.BadParameter(f"{one!r} is not NAME=FILE,FILE", param_hint="--run")
        files.setdefault(name, []).extend(chosen)
    return files


_WANT = {
    "--plot": ("formats", "log", "xlim", "ylims", "smooth", "resumes"),
    "--plot or --html": ("x",),
    "--table": ("style",),
    "--watch": ("every",),
}
"""What is asked for with each of these, and does nothing without them."""


def _idle(context: click.Context) -> Iterator[str]:
    """The options of the command line that have no effect, with what is missing."""
    flags = {f"--{name}" for name, value in context.params.items() if value is True}
    for wanted, names in _WANT.items():
        if flags.isdisjoint(wanted.split(" or ")):
            for one in context.command.params:
                if one.name in names and context.get_parameter_source(one.name) is ParameterSource.COMMANDLINE:
                    yield f"{one.opts[0]} has no effect without {wanted}"


@command(
    "merge-logs",
    examples="""
    merge-logs logs/ --plot                     # curves.csv, summary.csv and four plots in results/
    merge-logs logs/ --table                    # the results table in Markdown
    merge-logs logs/ --html                     # one interactive page, results/report.html
    merge-logs logs/ --html --watch             # the same, updated during training
    merge-logs logs/ --json | jq '.[].accuracy' # the summary for other programs
    merge-logs --run net='night*.log'           # one training, a night in each file
    merge-logs old/*.log.gz --x epoch --plot --format pdf --resumes --train-size 1281167
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--run",
    "named",
    metavar="NAME=FILE,FILE",
    multiple=True,
    help="Take these files, in the order of their times, for the log of one run; * stands for anything.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="results",
    show_default=True,
    help="Output folder.",
)
@click.option("--plot", is_flag=True, help="Draw test accuracy, test loss, train loss and learning rate.")
@click.option(
    "--x",
    type=click.Choice(["iteration", "epoch", "seconds"]),
    help="x axis of the plots.  [default: epochs if batch sizes differ and epochs are known, else iterations]",
)
@click.option(
    "--format",
    "formats",
    metavar="LIST",
    callback=_several("png", "svg", "pdf"),
    default="png",
    help="File formats of the plots: png,svg,pdf.",
)
@click.option("--log", type=click.Choice(["x", "y", "xy"]), help="Logarithmic axes in the plots.")
@click.option("--xlim", metavar="LOW,HIGH", callback=_limits, help="Limits of the x axis, in its unit.")
@click.option(
    "--ylim",
    "ylims",
    metavar="[PLOT=]LOW,HIGH",
    multiple=True,
    callback=_limits_by_plot,
    help="Limits of the y axis of test_accuracy, or of another plot: test_loss=0,2.",
)
@click.option(
    "--smooth", type=click.IntRange(min=1), help="Average the train loss over N displayed values; 1 for none."
)
@click.option("--resumes", is_flag=True, help="Mark in the plots where runs were resumed.")
@click.option("--html", is_flag=True, help="Write report.html: table, interactive curves, sessions, configurations.")
@click.option(
    "--export",
    metavar="LIST",
    callback=_several("csv", "parquet", "json", "tensorboard"),
    help="Export curves and summary: csv,parquet,json,tensorboard.",
)
@click.option("--watch", is_flag=True, help="Update everything during training, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds between updates of --watch.",
)
@click.option("--table", is_flag=True, help="Write the results table: table.md, .tex and .csv.")
@click.option(
    "--style",
    type=click.Choice(["rounded", "published"]),
    default="rounded",
    show_default=True,
    help="Figures in the table: rounded, or truncated as in the published tables.",
)
@click.option(
    "--published", type=click.Path(path_type=Path), help="CSV file of published figures to show beside these."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout, and nothing else.")
@click.option("--sessions", is_flag=True, help="Report the sessions of each run: crashes, resumes, lost iterations.")
@click.option("--each", is_flag=True, help="Show single runs, not means over seeds.")
@click.option("--accuracy", metavar="NAME", help="Test output to take for the accuracy.")
@click.option("--loss", metavar="NAME", help="Test output to take for the loss; #1:NAME is of test net 1.")
@click.option("--train-size", type=click.IntRange(min=1), help="Images in one epoch, if missing from the logs.")
def main(
    paths: tuple[Path, ...],
    named: tuple[str, ...],
    x: str | None,
    log: str | None,
    xlim: tuple[float, float] | None,
    smooth: int | None,
    resumes: bool,
    watch: bool,
    every: float,
    as_json: bool,
    sessions: bool,
    accuracy: str | None,
    loss: str | None,
    train_size: int | None,
    **output: Any,
) -> None:
    """Merge Caffe logs, of resumed runs too, into one curve per run.

    PATH is a log or a folder of logs, plain or compressed (.gz, .bz2, .xz, .zst).
    """
    files = _run_files(named)
    if not paths and not files:
        raise click.UsageError("Missing argument 'PATH...'.")
    if as_json and (watch or sessions):
        raise click.UsageError("--json prints the summary and nothing else: leave out --watch and --sessions")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no matrix is multiplied here, and idle threads of NumPy's spin
    from caffebench.analysis.output import choices, terminal
    from caffebench.analysis.output.drawing.view import View, check_limits
    from caffebench.analysis.output.options import OutputOptions

    axes = log or ""
    view = View(x, log_x="x" in axes, log_y="y" in axes, resumes=resumes, window=smooth, xlim=xlim)
    check_limits(view, output["ylims"])
    wanted = OutputOptions(view=view, reload=every if watch else None, **output)
    if watch:
        from caffebench.analysis.output.watch import Watcher
        from caffebench.analysis.output.watch import watch as keep_watching

        try:
            keep_watching(
                Watcher(paths, train_size, files),
                every,
                lambda runs: wanted.write(choices.with_names(runs, accuracy, loss)),
                click.echo,
            )
        except KeyboardInterrupt:
            return  # how one ends it
    written = wanted.write(choices.with_names(terminal.read_with_progress(paths, train_size, files), accuracy, loss))
    runs = written.runs
    for run in runs:
        counts = f"{len(run.stitched):,} rows survive, {run.bad_lines:,} bad lines"
        detail(f"{run.name}: from {', '.join(run.sources)}; {counts}")
    if as_json:
        click.echo(terminal.summary_json(runs))
        for path in written.paths:
            detail(f"{path} written")
    else:
        click.echo(terminal.overview(runs))
        if sessions:
            from caffebench.analysis.output import session_report

            for run in runs:
                click.echo("\n" + "\n".join(wrapped(printable(line)) for line in session_report.session_report(run)))
        if written.table:
            click.echo(f"\n{written.table}")
        click.echo("\n".join(printable(str(path)) for path in written.paths))
    idle = _idle(click.get_current_context())
    for note in (*terminal.remarks(runs), *choices.choice_remarks(runs), *written.notes, *idle):
        announce(note)
