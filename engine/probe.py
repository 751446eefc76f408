"""Trying the installed Caffe in a process of its own: a broken one may take its process down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass

__all__ = ["Probe", "probe"]

# Runs where Caffe is installed. The net multiplies matrices both ways, so that a BLAS that loads but does not
# work is found here and not in the user's first training.
_TRIAL = """
import json, os, re, sys, tempfile
import numpy
import caffe
net = '''
layer { name: "d" type: "DummyData" top: "d" top: "l" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 }
  data_filler { type: "constant" value: 1 } data_filler { type: "constant" } } }
layer { name: "f" type: "InnerProduct" bottom: "d" top: "f" inner_product_param {
  num_output: 2 weight_filler { type: "constant" value: 0.5 } } }
layer { name: "s" type: "SoftmaxWithLoss" bottom: "f" bottom: "l" top: "s" }
'''
caffe.set_mode_cpu()
with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
    file.write(net)
    file.flush()
    trial = caffe.Net(file.name, caffe.TRAIN)
loss = float(trial.forward()["s"])
trial.backward()
right = abs(loss - numpy.log(2)) < 1e-5 and bool(numpy.allclose(trial.blobs["f"].data, 1.5))
libraries = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
# NumPy and SciPy bring a BLAS of their own, which is not Caffe's.
blas = sorted(
    os.path.basename(name) for name in libraries
    if re.match(r"lib(open|f77|c|sat)?(blas|mkl_rt|atlas)", os.path.basename(name)) and "site-packages" not in name
)
json.dump({
    "folder": os.path.dirname(caffe.__file__),
    "version": caffe.__version__,
    "layers": len(caffe.layer_type_list()),
    "blas": blas[0] if blas else "unknown",
    "cuda": any("libcudart" in name for name in libraries),
    "right": right,
}, sys.stdout)
"""


@dataclass(frozen=True)
class Probe:
    """What a trial of the installed Caffe showed; ``error`` is None where it works."""

    error: str | None
    missing: bool = False
    folder: str = ""
    version: str = ""
    layers: int = 0
    blas: str = ""
    cuda: bool = False


def probe() -> Probe:
    """Import Caffe in a fresh process of this Python, run a two-layer net forward and backward, and look around."""
    with tempfile.TemporaryDirectory() as elsewhere:  # so that no folder called caffe here is taken for Caffe
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            cwd=elsewhere,
            env=os.environ | {"GLOG_minloglevel": "2", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
    if done.returncode < 0:
        return Probe(error=f"importing and running it dies with {signal.Signals(-done.returncode).name}")
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Probe(error=last, missing=last == "ModuleNotFoundError: No module named 'caffe'")
    facts = json.loads(done.stdout)
    right = facts.pop("right")
    return Probe(error=None if right else "it imports, but a two-layer net gives a wrong result", **facts)
