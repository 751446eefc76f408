"""Trying the installed Caffe in a process of its own: a broken one may take its process down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass

__all__ = ["Probe", "probe"]

# Runs where Caffe is installed. The net multiplies matrices both ways, so that a BLAS that loads but does not
# work is found here and not in the user's first training; so is a card that this Caffe was not built for.
_TRIAL = """
import ctypes, json, os, re, sys, tempfile
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
libraries = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
named = {os.path.basename(name).partition(".so")[0]: name for name in libraries}

def version(library, function, join):
    if library not in named:
        return None
    library = ctypes.CDLL(named[library])
    if function == "cudaRuntimeGetVersion":
        number = ctypes.c_int()
        library.cudaRuntimeGetVersion(ctypes.byref(number))
        return join(number.value)
    library.cudnnGetVersion.restype = ctypes.c_size_t
    return join(library.cudnnGetVersion())

cuda = version("libcudart", "cudaRuntimeGetVersion", lambda n: f"{n // 1000}.{n % 1000 // 10}")
cudnn = version("libcudnn", "cudnnGetVersion", lambda n: f"{n // 10000}.{n % 10000 // 100}.{n % 100}")
devices = ctypes.c_int(0)
if cuda and ctypes.CDLL(named["libcudart"]).cudaGetDeviceCount(ctypes.byref(devices)) != 0:
    devices = ctypes.c_int(0)

def right():
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(net)
        file.flush()
        trial = caffe.Net(file.name, caffe.TRAIN)
    loss = float(trial.forward()["s"])
    trial.backward()
    return abs(loss - numpy.log(2)) < 1e-5 and bool(numpy.allclose(trial.blobs["f"].data, 1.5))

caffe.set_mode_cpu()
works = right()
fast = os.path.join(os.path.dirname(caffe.__file__), "libcaffebench_fast.so")
try:
    ctypes.CDLL(fast, ctypes.RTLD_GLOBAL)
except OSError:
    fast = None
works = works and (fast is None or right())
if devices.value:
    caffe.set_device(0)
    caffe.set_mode_gpu()
    works = works and right()
# NumPy and SciPy bring a BLAS of their own, which is not Caffe's; what OpenCV needs may bring the reference BLAS.
blas = sorted(
    (os.path.basename(name) for name in libraries
     if re.match(r"lib(open|f77|c|sat)?(blas|mkl_rt|atlas)", os.path.basename(name))
     and os.path.basename(os.path.dirname(name)) not in ("numpy.libs", "scipy.libs")),
    key=lambda name: (name.startswith("libblas."), name),
)
json.dump({
    "folder": os.path.dirname(caffe.__file__),
    "version": caffe.__version__,
    "layers": len(caffe.layer_type_list()),
    "blas": blas[0] if blas else "unknown",
    "cuda": cuda,
    "cudnn": cudnn,
    "nccl": caffe.has_nccl(),
    "devices": devices.value,
    "opencv": "ImageData" in caffe.layer_type_list(),
    "leveldb": "libleveldb" in named,
    "fast": fast is not None,
    "right": works,
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
    cuda: str | None = None
    """The version of the CUDA runtime, None where it was built for the CPU only."""
    cudnn: str | None = None
    nccl: bool = False
    devices: int = 0
    """How many cards answer it."""
    opencv: bool = False
    """Whether it decodes images."""
    leveldb: bool = False
    """Whether it reads LevelDB."""
    fast: bool = False
    """Whether the fast layers for the CPU (`engine.fast`) are beside it and load."""


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
        fatal = [line.partition("] ")[2] for line in done.stderr.splitlines() if re.match(r"F\d+ .*\] ", line)]
        why = f": {fatal[0].strip()}" if fatal else ""
        return Probe(error=f"importing and running it dies with {signal.Signals(-done.returncode).name}{why}")
    if done.returncode > 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        last = lines[-1]
        if "unreported exception" in last:  # Python's word for what the library has printed itself
            last = next((line for line in lines if re.match(r"\w+Error: |A module that was compiled", line)), last)
        return Probe(error=last, missing=last == "ModuleNotFoundError: No module named 'caffe'")
    facts = json.loads(done.stdout)
    right = facts.pop("right")
    return Probe(error=None if right else "it imports, but a two-layer net gives a wrong result", **facts)
