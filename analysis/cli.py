"""The command ``merge-logs``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from caffebench.common.cli import command
from caffebench.common.printable import printable

__all__ = ["main"]


def _several(*words: str) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    """The callback of an option that takes some of ``words`` with commas between."""

    def convert(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
        chosen = tuple(one.strip() for one in value.split(",") if one.strip())
        for one in chosen:
            if one not in words:
                raise click.BadParameter(f"{one!r} is not one of {', '.join(words)}", ctx, param)
        return chosen

    return convert


def _run_files(named: tuple[str, ...]) -> dict[str, list[Path]]:
    """Files by name of their run."""
    files: dict[str, list[Path]] = {}
    for one in named:
        name, equals, some = one.partition("=")
        chosen = [Path(path) for path in some.split(",") if path]
        if not name or not equals or not chosen:
            raise click.BadParameter(f"{one!r} is not NAME=FILE,FILE", param_hint="--run")
        files.setdefault(name, []).extend(chosen)
    return files


@command(
    "merge-logs",
    examples="""
    merge-logs logs/ --plot                     # curves.csv, summary.csv and four plots in results/
    merge-logs logs/ --table                    # the results table in Markdown
    merge-logs logs/ --html                     # one page to look at, results/report.html
    merge-logs logs/ --html --watch             # kept current while training goes on
    merge-logs old/*.log.gz --x epoch --plot --format pdf --resumes --train-size 1281167
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--run", "named", metavar="NAME=FILE,FILE", multiple=True, help="Files that are of one run.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="results", show_default=True)
@click.option("--plot", is_flag=True, help="Draw test accuracy, test loss, train loss and learning rate.")
@click.option(
    "--x",
    type=click.Choice(["iteration", "epoch", "seconds"]),
    help="Of the plots; epochs where batch sizes differ and epochs are known, else iterations, unless you say it.",
)
@click.option(
    "--format",
    "formats",
    metavar="LIST",
    callback=_several("png", "svg", "pdf"),
    default="png",
    help="Of the plots: png,svg,pdf.",
)
@click.option("--log", type=click.Choice(["x", "y", "xy"]), help="Logarithmic axes.")
@click.option("--smooth", type=click.IntRange(min=1), help="Displayed losses a mean is taken over; 1 for none.")
@click.option("--resumes", is_flag=True, help="Mark in the plots where a run was resumed.")
@click.option("--html", is_flag=True, help="Write report.html: table, interactive curves, sessions, configurations.")
@click.option(
    "--export",
    metavar="LIST",
    callback=_several("csv", "parquet", "json", "tensorboard"),
    default="",
    help="Write the tables for others too: csv,parquet,json,tensorboard.",
)
@click.option("--watch", is_flag=True, help="Keep it all current while training goes on, until Ctrl-C.")
@click.option("--every", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Seconds of --watch.")
@click.option("--table", is_flag=True, help="Write table.md, .tex and .csv, the results as one publishes them.")
@click.option(
    "--style",
    type=click.Choice(["rounded", "published"]),
    default="rounded",
    show_default=True,
    help="Of the table's figures: published cuts them.",
)
@click.option("--published", type=click.Path(path_type=Path), help="CSV of published figures to show beside ours.")
@click.option("--sessions", is_flag=True, help="Report the sessions of each run: crashes, resumes, what was lost.")
@click.option("--each", is_flag=True, help="Show single runs, not means over runs that differ in their seed.")
@click.option("--accuracy", metavar="NAME", help="The test output that is the accuracy, where several could be.")
@click.option("--loss", metavar="NAME", help="The test output that is the loss; #1:NAME is of test net 1.")
@click.option("--train-size", type=click.IntRange(min=1), help="Images of one epoch, where the logs do not tell.")
def main(
    paths: tuple[Path, ...],
    named: tuple[str, ...],
    out: Path,
    plot: bool,
    x: str | None,
    formats: tuple[str, ...],
    log: str | None,
    smooth: int | None,
    resumes: bool,
    html: bool,
    export: tuple[str, ...],
    watch: bool,
    every: float,
    table: bool,
    style: str,
    published: Path | None,
    sessions: bool,
    each: bool,
    accuracy: str | None,
    loss: str | None,
    train_size: int | None,
) -> None:
    """Merge Caffe logs, resumed as often as you like, into one true curve a run.

    PATH is a log, or a folder with logs in it; .gz, .xz and .zst are read too.
    """
    files = _run_files(named)
    if not paths and not files:
        raise click.UsageError("Missing argument 'PATH...'.")
    from caffebench.analysis.output import choices, session_report, terminal
    from caffebench.analysis.output.options import OutputOptions

    wanted = OutputOptions(
        out,
        plot,
        x,
        formats,
        log or "",
        smooth,
        resumes,
        table,
        style,
        html,
        export,
        each,
        published,
        reload=every if watch else None,
    )
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
    runs = choices.with_names(terminal.read_with_progress(paths, train_size, files), accuracy, loss)
    written = wanted.write(runs)
    click.echo(terminal.overview(runs))
    if sessions:
        for run in runs:
            click.echo("\n" + "\n".join(map(printable, session_report.session_report(run))))
    if table:
        click.echo(f"\n{written.table}")
    click.echo("\n".join(printable(str(path)) for path in written.paths))
    for note in (*terminal.remarks(runs), *choices.said(runs), *written.notes):
        click.echo(printable(note), err=True)
