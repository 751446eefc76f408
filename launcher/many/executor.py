"""The places that runs can be trained in, by the names of ``--executor``: all that the command line knows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from caffebench.common.errors import ExitCode
from caffebench.launcher.plan.options import RunOptions

__all__ = ["EXECUTORS", "Executor"]

Executor = Callable[[RunOptions], ExitCode]
"""Trains, or submits, what the options name: the command's exit code.

Raises ``InputError`` for an option that it has no use for, and for everything that is wrong with the files.
"""


def _local(options: RunOptions) -> ExitCode:
    from caffebench.launcher.many.local import run_here

    return run_here(options)


def _slurm(options: RunOptions) -> ExitCode:
    from caffebench.launcher.many.slurm import submit

    return submit(options)


EXECUTORS: Mapping[str, Executor] = {"local": _local, "slurm": _slurm}
"""Imported when they are used: ``--help`` needs their names alone."""
