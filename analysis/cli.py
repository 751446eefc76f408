"""The command ``merge-logs``."""

from __future__ import annotations

from pathlib import Path

import click

from caffebench.common.cli import command

__all__ = ["main"]


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
@click.option("--table", is_flag=True, help="Write table.md, .tex and .csv, the results as one publishes them.")
@click.option("--published", type=click.Path(path_type=Path), help="CSV of published figures to show beside ours.")
@click.option("--sessions", is_flag=True, help="Tell the story of each run: sessions, crashes, what was lost.")
@click.option("--train-size", type=click.IntRange(min=1), help="Images of one epoch, where the logs do not tell.")
def main(
    paths: tuple[Path, ...],
    out: Path,
    plot: bool,
    x: str,
    table: bool,
    published: Path | None,
    sessions: bool,
    train_size: int | None,
) -> None:
    """Merge Caffe logs, resumed as often as you like, into one true curve a run.

    PATH is a log, or a folder with logs in it; .gz, .xz and .zst are read too.
    """
    from caffebench.analysis import publish, story, tables
    from caffebench.common.files import write_whole

    runs = story.read_with_progress(paths, train_size)
    if published is not None:
        publish.read_published(published, runs)
    tables.write_curves(runs, out / "curves.csv")
    tables.write_summary(runs, out / "summary.csv")
    written = [out / "curves.csv", out / "summary.csv"]
    story.overview(runs)
    if sessions:
        for run in runs:
            click.echo("\n" + "\n".join(story.story(run)))
    if table:
        lines = publish.lines(runs)
        made = {"md": publish.as_markdown, "tex": publish.as_latex, "csv": publish.as_csv}
        for kind, write in made.items():
            write_whole(out / f"table.{kind}", write(lines))
            written.append(out / f"table.{kind}")
        click.echo(f"\n{publish.as_markdown(lines)}")
    if plot:
        from caffebench.analysis.plots import save_plots

        written += save_plots(runs, out / "plots", x)
    click.echo("\n".join(map(str, written)))
