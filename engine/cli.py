"""The command ``install-caffe``."""

from __future__ import annotations

import os

import click

from caffebench.common.cli import command
from caffebench.common.errors import CaffebenchError

__all__ = ["main"]


@command(
    "install-caffe",
    examples="""
    install-caffe             # build Caffe for the CPU into this Python environment
    install-caffe --check     # what is installed, and does it work?
    """,
)
@click.option("--check", is_flag=True, help="Say what is installed and whether it works; change nothing.")
@click.option("--jobs", type=click.IntRange(min=1), help="Compilers at a time.  [default: one a core]")
@click.option("--force", is_flag=True, help="Build anew, and replace whatever Caffe is installed here.")
def main(check: bool, jobs: int | None, force: bool) -> None:
    """Build real Caffe into the current Python environment: `import caffe` and the `caffe` tool.

    What was built is cached, so that the next environment takes seconds. A Caffe that already works is left alone.
    """
    from caffebench.engine.probe import Probe, probe

    def tell(found: Probe) -> None:
        mode = "built for CUDA" if found.cuda else "CPU only"
        click.echo(f"Caffe {found.version}, {mode}, BLAS {found.blas}, {found.layers} layer types: {found.folder}")

    if check:
        found = probe()
        if found.missing:
            raise CaffebenchError("Caffe is not installed for this Python: run install-caffe")
        if found.error is not None:
            raise CaffebenchError(f"Caffe is installed but does not work ({found.error}): run install-caffe --force")
        tell(found)
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from caffebench.engine.install import install

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = (TextColumn("building Caffe"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("build", total=1.0, visible=False)
        found = install(
            jobs or len(os.sched_getaffinity(0)),
            console.print,
            lambda fraction: progress.update(bar, completed=fraction, visible=True),
            force=force,
        )
    tell(found)
