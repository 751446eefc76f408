"""What each of several runs at a time gets of this machine, and how its process is told."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caffebench.engine import fast
from caffebench.engine.blas import blas_environment
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.state.record import SnapshotMetadata

__all__ = ["Share", "child_environment", "choose_layers", "share_out"]


SPIN = 4000
"""Rounds that a thread waits awake: 0.08 ms on a Xeon of 2023; on its virtual machine fewer measured slower."""
LOOK = 0.1
"""Seconds in which others show that they use the processors."""


@dataclass(frozen=True)
class Share:
    """What one of several runs at a time gets of this machine."""

    gpus: tuple[int, ...]
    """None: the CPU."""
    threads: int | None
    """Of the BLAS; None: as many as the BLAS likes."""


def share_out(jobs: int, gpus: Sequence[int], cores: int) -> list[Share]:
    """What each of ``jobs`` runs at a time gets.

    A single run has all GPUs. Small nets gain more from running side by side than from more threads each.
    """
    if jobs == 1:
        return [Share(tuple(gpus), None)]
    threads = max(1, cores // jobs)
    return [Share((gpu,), threads) for gpu in gpus[:jobs]] or [Share((), threads)] * jobs


def choose_layers(plan: Plan, record: SnapshotMetadata | None) -> Literal["caffe", "fast"]:
    """Whose layers compute: what the plan says, else those that the run began with, else the fast ones on a CPU.

    ``record`` is of the snapshot that the run resumes from: the same layers bring it to the same weights, to the bit.
    Raises ``CaffebenchError`` where Caffe is not installed.
    """
    if plan.layers is not None:
        return plan.layers
    wanted = "fast" if record is None else record.layers
    return "fast" if wanted == "fast" and not plan.gpus and fast.is_built() else "caffe"


def child_environment(plan: Plan) -> dict[str, str]:
    """The environment variables of the process that a run trains in; the plan says whose layers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
    if plan.threads is not None:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(plan.threads)
    if not plan.gpus:  # a Caffe for CUDA takes long to ask, and has little to do for its BLAS
        environment |= blas_environment()
    if plan.layers == "fast":
        # Between two layers threads wait. Those that spin take the cores from other programs, and lose as much as they
        # gain; where there is room for them, they spare waking up, which takes a small net as long as computing does.
        if "OMP_WAIT_POLICY" not in environment and _has_room(plan):
            environment.setdefault("GOMP_SPINCOUNT", str(SPIN))
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def _has_room(plan: Plan) -> bool:
    """Whether as many processors are idle as the run has threads."""
    cores = os.sched_getaffinity(0)
    threads = plan.threads or len(cores)
    return threads > 1 and not plan.loader_workers and _idle(cores) > threads - 0.5


def _idle(cores: set[int]) -> float:
    """How many of these processors do nothing."""
    before = _idle_seconds(cores)
    time.sleep(LOOK)
    return (_idle_seconds(cores) - before) / LOOK


def _idle_seconds(cores: set[int]) -> float:
    """Seconds that these processors have been idle, all together, since the machine was started."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    names = {f"cpu{number}" for number in cores}
    ticks = sum(int(line[4]) + int(line[5]) for line in lines if line and line[0] in names)
    return ticks / os.sysconf("SC_CLK_TCK")
