"""What each of several runs at a time gets of this machine, and how its process is told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from caffebench.launcher.plan.plan import Plan

__all__ = ["Share", "child_environment", "share_out"]


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


def child_environment(plan: Plan) -> dict[str, str]:
    """The environment variables of the process that a run trains in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GLOG_")}
    if plan.threads is not None:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(plan.threads)
    if plan.layers == "fast":
        # Threads that spin while they wait take the cores from other runs, and lose much more than they gain.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment
