"""Training on this machine, or measuring what that would take."""

from __future__ import annotations

import click

from caffebench.common.errors import ExitCode, InputError
from caffebench.common.messages import announce
from caffebench.launcher.estimate.dry_run import dry_run
from caffebench.launcher.gpu.load import GpuLoad
from caffebench.launcher.plan.options import RunOptions
from caffebench.launcher.plan.outcome import exit_code
from caffebench.launcher.plan.planning import make_plans
from caffebench.launcher.run.scheduler import run_all
from caffebench.launcher.show.progress import Board, Level

__all__ = ["run_here"]


def run_here(options: RunOptions) -> ExitCode:
    """Train the runs, several at a time; with ``dry_run`` print what they would take. Raises ``InputError``."""
    if options.slurm:
        raise InputError(f"--slurm {options.slurm[0]} needs --executor slurm")
    batch = make_plans(options)
    if options.dry_run:
        for note in batch.notes:
            announce(note)
        table, code = dry_run(batch, announce)
        click.echo(table)
        return ExitCode(code)
    runs = {plan.run: plan.max_iter for plan in batch.plans}
    with Board(runs, GpuLoad(batch.gpus)) as board:
        for note in batch.notes:
            board.announce(note, Level.NORMAL)
        outcomes = run_all(batch, board)
    return exit_code(outcomes)
