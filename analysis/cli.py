"""The command ``merge-logs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffebench.common.cli import command

if TYPE_CHECKING:
    from caffebench.analysis.model import Run

__all__ = ["main"]


def _show(runs: list[Run]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width: names are not to be cut for it
    table = Table(box=None, pad_edge=False)
    for title in ("run", "status", "iteration", "accuracy", "loss", "sessions", "lost", "time"):
        table.add_column(
            title, justify="left" if title in ("run", "status") else "right", no_wrap=title != "run", overflow="fold"
        )
    for run in runs:
        table.add_row(
            run.name,
            run.status,
            "-" if run.iteration is None else f"{run.iteration:,}",
            "-" if run.accuracy is None else f"{run.accuracy:g}",
            "-" if run.loss is None else f"{run.loss:g}",
            str(len(run.sessions)),
            f"{run.lost_iterations:,}",
            "-" if run.seconds is None else _clock(run.seconds),
        )
    console.print(table)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@command(
    "merge-logs",
    examples="""
    merge-logs logs/ --plot                     # curves.csv, summary.csv and four plots in results/
    merge-logs logs/ --table                    # the results table in Markdown
    merge-logs old/*.log.gz --x epoch --plot --train-size 1281167
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="results", show_default=True)
@click.option("--plot", is_flag=True, help="Draw test accuracy, test loss, train loss and learning rate.")
@click.option("--x", type=click.Choice(["iteration", "epoch", "seconds"]), default="iteration", show_default=True)
@click.option("--table", is_flag=True, help="Write and print table.md, the results as one publishes them.")
@click.option("--train-size", type=click.IntRange(min=1), help="Images of one epoch, where the logs do not tell.")
def main(paths: tuple[Path, ...], out: Path, plot: bool, x: str, table: bool, train_size: int | None) -> None:
    """Merge Caffe logs, resumed as often as you like, into one true curve a run.

    PATH is a log, or a folder with logs in it; .gz, .xz and .zst are read too.
    """
    from caffebench.analysis.read import read_runs
    from caffebench.analysis.tables import markdown, write_curves, write_summary
    from caffebench.common.files import write_whole

    runs = read_runs(paths, train_size)
    write_curves(runs, out / "curves.csv")
    write_summary(runs, out / "summary.csv")
    written = [out / "curves.csv", out / "summary.csv"]
    _show(runs)
    if table:
        text = markdown(runs)
        write_whole(out / "table.md", text)
        written.append(out / "table.md")
        click.echo(f"\n{text}")
    if plot:
        from caffebench.analysis.plots import save_plots

        written += save_plots(runs, out / "plots", x)
    click.echo("\n".join(map(str, written)))
