"""What the phases of a run take on this machine, measured in a process of their own."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass

from caffebench.common.child_process import task_file
from caffebench.common.errors import CaffebenchError
from caffebench.common.isolated import module_command
from caffebench.launcher.plan.plan import Plan

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """What a phase of a run takes on this machine."""

    until: int
    """The iteration at which the phase ends."""
    images: int
    """Images in an iteration."""
    seconds: float
    """Of an iteration."""
    test_seconds: float
    """Of a test with all test nets."""
    memory_bytes: int
    """The most that the process has held."""
    snapshot_bytes: int
    """Weights and solver state."""
    synthetic: bool
    """The training data are not there, and loading them is not measured."""


def measure(plan: Plan, environment: dict[str, str]) -> list[Measured]:
    """Make a few steps of each phase in a process of its own. Raises ``CaffebenchError`` with what Caffe said."""
    with task_file(plan) as descriptor:
        child = subprocess.run(
            module_command("caffebench.launcher.estimate.measure", str(descriptor)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(descriptor,),
            env=environment,
        )
    if child.returncode:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        why = [line.partition("] ")[2] for line in lines if line.startswith("F") and "] " in line]
        if child.returncode < 0 and not why:
            name = signal.Signals(-child.returncode).name
            why = [f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")]
        raise CaffebenchError(f"{plan.run} cannot be measured: {[*lines, *why][-1].strip()}")
    return [Measured(**one) for one in json.loads(child.stdout)]
