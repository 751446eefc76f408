"""One run on several GPUs: a process for each, whose gradients NCCL adds up, as Caffe's own ``train.py`` does.

Rank 0 is the training process itself: it tests, displays and writes snapshots. The others are
``python -m caffebench.launcher.run.ranks FD`` and only train. Caffe has each GPU take the batch size of the file.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

from caffebench.common.child_process import block_sigterm, die_with, ignore_stop_signals, read_task, task_file
from caffebench.common.errors import CaffebenchError
from caffebench.common.events import RankEvent, event_message
from caffebench.common.glog import glog_line
from caffebench.common.isolated import module_command
from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.plan.plan import Plan
from caffebench.launcher.run.tasks import RankTask
from caffebench.launcher.solver.schedule import Phase

__all__ = ["RankGroup", "main", "use_gpu"]

UID_BYTES = 128
"""``NCCL_UNIQUE_ID_BYTES``."""
GRACE = 5.0
"""Seconds in which rank 0, before it is ended for another's failure, may report one of its own."""
LIFELINE = 0
"""A guard's standard input: the end of rank 0's pipe that keeps rank 0 alive."""


def use_gpu(caffe: Any, gpus: Sequence[int], rank: int) -> None:
    """Make this process the one of ``gpus[rank]``; before any net is built."""
    caffe.set_device(gpus[rank])
    caffe.set_mode_gpu()
    if len(gpus) > 1:
        caffe.set_solver_count(len(gpus))
        caffe.set_solver_rank(rank)
        caffe.set_multiprocess(True)


class RankGroup:
    """The other ranks of a phase, started by rank 0."""

    def __init__(self, caffe: Any, plan: Plan, phase: Phase, *, seed: int, resume_from: int | None) -> None:
        """Start the processes; they build their nets while rank 0 builds its own."""
        self.caffe = caffe
        self.uid = new_uid()
        self.nccl: Any = None
        self.guards: list[subprocess.Popen[bytes]] = []
        self.lifelines: list[int] = []
        for rank in range(1, len(plan.gpus)):
            task = RankTask(os.getpid(), plan, phase, seed, resume_from, rank, base64.b64encode(self.uid).decode())
            guarded, lifeline = os.pipe()
            die_with_reader(lifeline)
            with task_file(task) as descriptor, block_sigterm():
                command = module_command("caffebench.launcher.run.ranks", str(descriptor))
                self.guards.append(subprocess.Popen(command, stdin=guarded, pass_fds=(descriptor,)))
            self.lifelines.append(lifeline)
            os.close(guarded)

    def join(self, solver: Any) -> None:
        """Connect rank 0's solver; returns when all ranks have the same weights."""
        self.nccl = connect(self.caffe, solver, self.uid)

    def close(self) -> None:
        """Wait for the end of the others, which have trained as far as rank 0: the next ones need their memory."""
        self.nccl = None
        for lifeline in self.lifelines:
            os.close(lifeline)
        for guard in self.guards:
            guard.wait()


def die_with_reader(descriptor: int) -> None:
    """Have the kernel end this process when nobody can read the pipe any more that ``descriptor`` writes to.

    Caffe holds Python's lock while it trains, and while NCCL waits, without end, for a rank that is gone: neither a
    thread nor a signal handler of Python would run. So the signal is one that ends a process by itself.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)


def new_uid() -> bytes:
    """What the ranks of one group know each other by, of ``UID_BYTES`` bytes. Raises ``CaffebenchError``.

    pycaffe's ``NCCL.new_uid`` gives, under Python 3, only those before the first zero byte (``_caffe.cpp``): that cuts
    off the address at which rank 0 is to be found. Caffe has loaded the library that is named here.
    """
    uid = ctypes.create_string_buffer(UID_BYTES)
    try:
        code = ctypes.CDLL("libnccl.so.2").ncclGetUniqueId(uid)
    except OSError as error:
        raise CaffebenchError(f"several GPUs for one run need NCCL: {error}") from None
    if code != 0:
        raise CaffebenchError(f"NCCL cannot start here (code {code}): NCCL_DEBUG=INFO has it say more in the log")
    return uid.raw


def connect(caffe: Any, solver: Any, uid: bytes) -> Any:
    """Have NCCL add up the gradients of ``solver`` with those of the other ranks."""
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    return nccl


def main() -> None:
    """Be one of the ranks from 1 on, and its guard."""
    task = read_task(RankTask, int(sys.argv[1]))
    die_with(task.parent)
    ignore_stop_signals()
    # Caffe's ranks wait for one another without end, so they live and die together: this process, the guard, ends when
    # its rank fails or rank 0 lets go of it, its rank is ended with it, and rank 0 when no one holds the lifeline.
    guard = os.getpid()
    worker = os.fork()
    if worker:
        _, status = os.waitpid(worker, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            event = RankEvent(task.rank, task.plan.gpus[task.rank], how)
            sys.stderr.write(glog_line(event_message(event)))
            sys.stderr.flush()
            time.sleep(GRACE)
        else:
            os.read(LIFELINE, 1)  # rank 0 has more to do than the others: a last test, snapshots
        return
    die_with(guard)
    code = 1
    try:
        _train(task)
        code = 0
    except CaffebenchError as error:
        print(f"rank {task.rank}: {error}", file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # not through the ends of Caffe's data threads


def _train(task: RankTask) -> None:
    from caffebench.launcher.run.solver_setup import prepare_solver

    sys.path += task.plan.python_path
    caffe = import_caffe()
    caffe.init_log(1, True)  # warnings and worse: the log is that of rank 0
    ignore_stop_signals()  # glog has put its own handler of SIGTERM there
    use_gpu(caffe, task.plan.gpus, task.rank)
    training = prepare_solver(
        caffe, task.plan, task.phase, seed=task.seed, resume_from=task.resume_from, rank=task.rank
    )
    solver = training.solver
    solver.add_callback(lambda: training.prepare(solver.iter), lambda: None)
    nccl = connect(caffe, solver, base64.b64decode(task.uid))
    solver.step(task.phase.until - solver.iter)
    del nccl


if __name__ == "__main__":
    main()
