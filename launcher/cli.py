"""``run-caffe``: train solver prototxt files on real Caffe, through crashes, nights and Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from caffebench.common.caffe_facts import InitMethod
from caffebench.common.cli import command, into
from caffebench.common.errors import ExitCode
from caffebench.launcher.many.executor import EXECUTORS
from caffebench.launcher.plan.options import RunOptions

__all__ = ["main"]

EXAMPLES = """
run-caffe prototxt/bs128.prototxt             train one variant, or resume it
run-caffe prototxt/*.prototxt --jobs 2        train them all, two at a time
run-caffe my_solver.prototxt --gpu 1          any solver prototxt will do
run-caffe prototxt/bs128.prototxt --fresh     start over; the old files are moved aside
run-caffe prototxt/*.prototxt --executor slurm --slurm partition=gpu --slurm gres=gpu:1 --slurm time=8h
"""


@command("run-caffe", examples=EXAMPLES)
@click.argument("prototxt", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--gpu", metavar="ID[,ID...]|all", help="Train on these GPUs.  [default: the first that works]")
@click.option("--cpu", is_flag=True, help="Train on the CPU.")
@click.option(
    "--layers",
    type=click.Choice(["caffe", "fast"]),
    help="Caffe's own layers, or faster ones for the CPU, whose results differ in the last digits.  [default: fast on "
    "the CPU; a resumed run keeps its own]",
)
@click.option(
    "--init",
    type=click.Choice(get_args(InitMethod)),
    help="Initialisation of the weights.  [default: as in the file's header]",
)
@click.option("--weights", type=click.Path(path_type=Path), help="Start from the weights of a .caffemodel.")
@click.option(
    "--snapshot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Start from a .solverstate of another run or of plain Caffe.",
)
@click.option("--logs", default="logs", show_default=True, type=click.Path(path_type=Path), help="Folder of the logs.")
@click.option(
    "--snapshots",
    default="snapshots",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the snapshots.",
)
@click.option(
    "--data-root",
    envvar="CAFFEBENCH_DATA",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Folder of the databases.  [default: data]",
)
@click.option("--jobs", type=int, help="Parallel runs.  [default: 1; with Slurm, no limit]")
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), help="Random seed.  [default: that of the file, else a new one]"
)
@click.option(
    "--seeds", metavar="N|LIST", help="Train each file once per seed, as RUN_seed1, ...: 3 (seeds 1, 2, 3) or 5,7."
)
@click.option(
    "--name",
    help="Name of the run and its files; {stem} and {folder} are parts of the file's path.  [default: {stem}]",
)
@click.option("--fresh", is_flag=True, help="Start over; earlier logs and snapshots of the run are moved aside.")
@click.option("--max-iter", type=click.IntRange(min=1), help="Train to this iteration.")
@click.option(
    "--resume",
    type=click.Choice(["auto", "exact", "order", "caffe"]),
    default="auto",
    show_default=True,
    help="What a resume restores: everything (exact), the order of the records (order), or what Caffe restores "
    "(caffe); auto is exact if that takes less than a minute, else order.",
)
@click.option(
    "--keep-snapshots",
    metavar="N",
    type=click.IntRange(min=1),
    help="Keep only the newest N snapshots; the others are removed when the next is written.",
)
@click.option("--time-limit", metavar="TIME", help="Stop all runs with a snapshot before this time is up: 8h, 90m.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Retries after a crash that may be temporary.",
)
@click.option("--allow-python-layers", is_flag=True, help="Let Python layers run code that lies beside the prototxt.")
@click.option("--dry-run", is_flag=True, help="Train nothing; show what would run, and estimate time, memory and disk.")
@click.option("--keep-going", is_flag=True, help="Do not stop a run that diverges.")
@click.option(
    "--executor",
    type=click.Choice(list(EXECUTORS)),
    default="local",
    show_default=True,
    help="Train here, or submit one array job to Slurm.",
)
@click.option("--slurm", metavar="KEY=VALUE", multiple=True, help="Option for sbatch, such as partition=gpu.")
@into(RunOptions)
def main(options: RunOptions) -> ExitCode:
    """Train solver prototxt files, generated or any other, on real Caffe.

    Logs are LOGS/<run>.NNN.log, one per session, snapshots SNAPSHOTS/<run>_iter_N.*. The same command resumes a run
    from its newest complete snapshot. Ctrl-C stops with a snapshot (exit code 3).
    """
    return EXECUTORS[options.executor](options)
