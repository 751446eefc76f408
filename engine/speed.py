"""How fast Caffe trains on this machine: the stopwatch for its steps, and images a second of a net on made-up data.

What a planned run takes, with its own data, device and tests, is measured by ``run-caffe --dry-run`` with the same
stopwatch. Run with ``python -m caffebench.engine.speed SOLVER SECONDS``, this makes steps of a solver file and prints
the seconds of one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from caffebench.common.isolated import module_command
from caffebench.engine import fast
from caffebench.engine.blas import blas_environment
from caffebench.engine.messages import caffe_messages

__all__ = ["images_per_second", "seconds_of"]

ENOUGH, STEPS, PATIENCE = 1.5, 5, 20.0
"""Steps are made for so many seconds and at least so many; fewer where they have taken longer than the last figure."""


def seconds_of(act: Callable[[], object], enough: float = ENOUGH, most: int = sys.maxsize) -> float:
    """Seconds that ``act`` takes, the first time aside, which is slower; at most ``most`` times are tried."""
    begin = time.perf_counter()
    act()
    warm = time.perf_counter()
    if warm - begin > PATIENCE or most == 1:
        return warm - begin
    count, spent = 0, 0.0
    while count < most and spent < PATIENCE and (count < STEPS or spent < enough):
        act()
        count, spent = count + 1, time.perf_counter() - warm
    return spent / count


def images_per_second(net: Any, batch: int, enough: float = ENOUGH) -> float | None:
    """Images a second in training, SGD's update included, on one core of the CPU, with the layers that a run has there.

    ``net`` is a ``NetParameter`` that reads no data (DummyData in the place of its data layers). None where Caffe is
    not installed or does not build it.
    """
    from google.protobuf import text_format

    solver = caffe_messages().SolverParameter(
        net_param=net, base_lr=0, lr_policy="fixed", momentum=0.9, weight_decay=1e-4, solver_mode=0
    )
    with tempfile.TemporaryDirectory(prefix="caffebench-") as folder:
        path = Path(folder) / "solver.prototxt"
        path.write_text(text_format.MessageToString(solver))
        command = module_command("caffebench.engine.speed", str(path), str(enough))
        environment = os.environ | blas_environment() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return batch / float(done.stdout) if done.returncode == 0 else None


def main() -> None:
    """In the child: a ``CHECK`` of Caffe's that fails ends it."""
    os.environ |= {"GLOG_minloglevel": "2"}
    from caffebench.engine.pycaffe import import_caffe

    caffe = import_caffe()
    caffe.set_mode_cpu()
    if fast.is_built():
        fast.load()
    print(seconds_of(partial(caffe.get_solver(sys.argv[1]).step, 1), float(sys.argv[2])))


if __name__ == "__main__":
    main()
