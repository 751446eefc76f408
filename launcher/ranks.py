"""One run on several GPUs: a process for each, whose gradients NCCL adds up, as Caffe's own ``train.py`` does.

Rank 0 is the training process itself: it tests, displays and writes snapshots. The others are
``python -m caffebench.launcher.ranks FD`` and only train. Caffe has each GPU take the batch size of the file.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.lifeline import die_with
from caffebench.launcher.plan import Plan
from caffebench.launcher.schedule import Phase

__all__ = ["Team", "main", "use_gpu"]


def use_gpu(caffe: Any, gpus: Sequence[int], rank: int) -> None:
    """Make this process the one of ``gpus[rank]``; before any net is built."""
    caffe.set_device(gpus[rank])
    caffe.set_mode_gpu()
    if len(gpus) > 1:
        caffe.set_solver_count(len(gpus))
        caffe.set_solver_rank(rank)
        caffe.set_multiprocess(True)


class Team:
    """The other ranks of a phase, started by rank 0."""

    def __init__(self, caffe: Any, plan: Plan, phase: Phase, *, seed: int, resume_from: int | None) -> None:
        """Start the processes; they build their nets while rank 0 builds its own."""
        self.caffe = caffe
        self.uid: bytes = caffe.NCCL.new_uid()
        for rank in range(1, len(plan.gpus)):
            assignment = {
                "parent": os.getpid(),
                "plan": plan.to_json(),
                "phase": asdict(phase),
                "seed": seed,
                "resume_from": resume_from,
                "rank": rank,
                "uid": base64.b64encode(self.uid).decode(),
            }
            descriptor = os.memfd_create("assignment")
            os.write(descriptor, json.dumps(assignment).encode())
            os.lseek(descriptor, 0, os.SEEK_SET)
            command = [sys.executable, "-m", "caffebench.launcher.ranks", str(descriptor)]
            subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,))
            os.close(descriptor)

    def join(self, solver: Any) -> None:
        """Connect rank 0's solver; returns when all ranks have the same weights."""
        self.nccl = connect(self.caffe, solver, self.uid)


def connect(caffe: Any, solver: Any, uid: bytes) -> Any:
    """Have NCCL add up the gradients of ``solver`` with those of the other ranks."""
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    return nccl


def main() -> None:
    """Be one of the ranks from 1 on."""
    with open(int(sys.argv[1]), "rb") as file:
        assignment = json.load(file)
    die_with(assignment["parent"])
    # Caffe's ranks wait for one another without end: when this one dies, a guard takes the whole run down with it.
    guard = os.getpid()
    worker = os.fork()
    if worker:
        _, status = os.waitpid(worker, 0)
        if status:
            os.kill(assignment["parent"], signal.SIGKILL)
        return
    die_with(guard)
    _train(assignment)


def _train(assignment: dict[str, Any]) -> None:
    from caffebench.launcher.start import start

    plan, phase, rank = Plan.from_json(assignment["plan"]), Phase(**assignment["phase"]), assignment["rank"]
    caffe = import_caffe()
    caffe.init_log(0, True)
    use_gpu(caffe, plan.gpus, rank)
    training = start(
        caffe,
        plan,
        phase,
        seed=assignment["seed"],
        resume_from=assignment["resume_from"],
        changed=[],
        say=lambda event, content: None,
        rank=rank,
    )
    solver = training.solver
    solver.add_callback(lambda: training.prepare(solver.iter), lambda: None)
    nccl = connect(caffe, solver, base64.b64decode(assignment["uid"]))
    solver.step(phase.until - solver.iter)
    del nccl


if __name__ == "__main__":
    main()
