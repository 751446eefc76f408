"""Runs on a Slurm cluster: one array job for all of them, each task a launcher of one run."""

from __future__ import annotations

import io
import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from caffebench.common.errors import CaffebenchError, ExitCode, InputError
from caffebench.common.isolated import module_command
from caffebench.launcher.many.slurm_task import SlurmTask
from caffebench.launcher.plan.options import RunOptions
from caffebench.launcher.plan.planning import make_plans, parse_duration

__all__ = ["parse_settings", "submit"]

TIME = "4h"
"""The time limit where none is asked for. Short ones start sooner, and no run is lost to one."""
SIGNAL_AHEAD = 120
"""Seconds before the limit at which a run begins to stop: for one iteration, or one test, and a snapshot."""
OURS = ("array", "error", "open-mode", "output", "requeue", "signal")
"""Options of sbatch that are not the user's to set."""


def submit(options: RunOptions) -> ExitCode:
    """Submit one array job with a task for each run, and print what was submitted.

    Raises ``InputError`` where there is no Slurm, for an option that Slurm has another one for, and for everything
    that ``make_plans`` finds wrong; ``CaffebenchError`` where Slurm refuses the job.
    """
    if options.dry_run:
        raise InputError("--dry-run measures on this machine: leave out --executor")
    parameters = parse_settings(options.slurm)
    if options.time_limit:
        raise InputError(
            "--time-limit would end a run for good: use --slurm time=TIME, after which Slurm starts it again"
        )
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise InputError(
            "--executor slurm: there is no Slurm here (sbatch and srun are not in PATH); run this where jobs are "
            "submitted, or leave out --executor"
        )
    try:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError
    except ImportError:
        raise InputError("--executor slurm needs the package submitit: pip install caffebench[slurm]") from None
    # Whether a GPU answers is a matter of the node, all else can be checked now.
    plans = make_plans(replace(options, gpu=None, cpu=True)).plans
    # A task starts in the folder that it was submitted from, and must not take that folder's files for Python's own.
    python = shlex.join(module_command())
    executor = submitit.SlurmExecutor(folder=options.logs / ".slurm", max_num_timeout=10**6, python=python)
    executor.update_parameters(**parameters, array_parallelism=options.jobs or len(plans))
    tasks = [
        SlurmTask(  # planned again where it runs, alone
            replace(
                options,
                prototxt=(Path(plan.prototxt),),
                name=plan.run,
                seed=plan.identity.seed,
                seeds=None,
                jobs=None,
                slurm=(),
            )
        )
        for plan in plans
    ]
    try:
        with redirect_stderr(io.StringIO()), executor.batch():  # what sbatch says is in the error as well
            jobs = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        said = str(error).strip().splitlines()[-1].removeprefix("sbatch: error: ")
        raise CaffebenchError(f"Slurm refused the job: {said}") from None
    number = jobs[0].job_id.split("_")[0]
    runs = "1 run" if len(plans) == 1 else f"{len(plans)} runs"
    click.echo(
        f"submitted {runs} as Slurm job {number}: squeue --job {number} shows them, scancel {number} stops them with "
        f"a snapshot, their logs go to {options.logs}"
    )
    return ExitCode.DONE


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """The parameters of submitit's Slurm executor for ``key=value`` settings, keys being sbatch's long options.

    Raises ``InputError`` for one without a value, one that is ours to set, and a time that cannot be read.
    """
    found: dict[str, str] = {"time": TIME}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip().lstrip("-").replace("_", "-")
        if not equals or not key or not value:
            raise InputError(f"--slurm {setting}: write key=value with an option of sbatch, as in partition=gpu")
        if key in OURS:
            raise InputError(f"--slurm {setting}: {key} is set by run-caffe itself; --jobs N limits the runs at a time")
        found[key] = value
    time = _minutes(found.pop("time"))
    cpus = found.get("cpus-per-task")
    return {
        "time": time,
        "signal_delay_s": min(SIGNAL_AHEAD, time * 60 // 3),
        # Slurm does not hand this on from the job to what srun starts in it (since 22.05).
        "srun_args": [f"--cpus-per-task={cpus}"] if cpus else [],
        "job_name": found.pop("job-name", "caffebench"),
        "additional_parameters": {**found, "requeue": True},
    }


def _minutes(text: str) -> int:
    """Whole minutes, rounded up, in "8h", "90m" or one of Slurm's forms: "90", "08:00:00", "1-12", "1-12:00"."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        try:
            return -(-int(parse_duration(text)) // 60)
        except InputError:
            raise InputError(f"--slurm time={text}: write a time such as 8h, 1h30m, 90m, or as sbatch does") from None
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is None and match[4] is None:  # minutes, or minutes:seconds
        seconds = first * 60 + second
    else:  # hours:minutes:seconds
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    return max(1, -(-seconds // 60))
