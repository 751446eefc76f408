"""The options of ``run-caffe``, from the command line, or a program of the user's, to the plans."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caffebench.common.caffe_facts import InitMethod

__all__ = ["RunOptions"]


@dataclass(frozen=True)
class RunOptions:
    """One command: docs/running.md says what each option means. None is an option that was not given."""

    prototxt: tuple[Path, ...]
    gpu: str | None = None
    """"0", "0,1" or "all"."""
    cpu: bool = False
    layers: Literal["caffe", "fast"] | None = None
    init: InitMethod | None = None
    weights: Path | None = None
    snapshot: Path | None = None
    logs: Path = Path("logs")
    snapshots: Path = Path("snapshots")
    data_root: Path | None = None
    jobs: int | None = None
    """Runs at a time; None: one here, and on a cluster as many as it lets run."""
    seed: int | None = None
    seeds: str | None = None
    """"3" or "5,7"."""
    name: str | None = None
    fresh: bool = False
    max_iter: int | None = None
    resume: Literal["auto", "exact", "order", "caffe"] = "auto"
    keep_snapshots: int | None = None
    time_limit: str | None = None
    """"8h", "90m"."""
    retries: int = 2
    allow_python_layers: bool = False
    keep_going: bool = False
    dry_run: bool = False
    executor: str = "local"
    """A name of ``many.executor.EXECUTORS``."""
    slurm: tuple[str, ...] = ()
    """Options for sbatch, ``key=value`` each."""
