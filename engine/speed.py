"""How fast Caffe trains a net on this machine: a few steps on made-up data, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["images_per_second"]

_PROGRAM = """
import json, sys, time, caffe
caffe.set_mode_cpu()
path, batch, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
net = caffe.Net(path, caffe.TRAIN)
net.forward()
net.backward()  # the first pass allocates
steps, start = 0, time.perf_counter()
while steps == 0 or time.perf_counter() - start < seconds:
    net.forward()
    net.backward()
    steps += 1
print(json.dumps(batch * steps / (time.perf_counter() - start)))
"""


def images_per_second(net: Any, batch: int, seconds: float = 1.5) -> float | None:
    """Images a second in training, forward and backward, on the CPU with one thread for BLAS, as a run has.

    ``net`` is a ``NetParameter`` that reads no data (DummyData in the place of its data layers). None where Caffe is
    not installed or does not build it.
    """
    from google.protobuf import text_format

    with tempfile.TemporaryDirectory(prefix="caffebench-") as folder:
        path = Path(folder) / "net.prototxt"
        path.write_text(str(text_format.MessageToString(net)))
        command = [sys.executable, "-c", _PROGRAM, str(path), str(batch), str(seconds)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)
    return float(json.loads(done.stdout)) if done.returncode == 0 else None
