"""What a run will take of a GPU's memory, counted from its net before it starts, and how busy the GPU is while it runs.

``python -m caffebench.launcher.gpu DEVICE`` is the child process that counts: it reads a solver in text format from
standard input, lets Caffe set its nets up on the CPU, where nothing is allocated before it is used, and adds up.
DEVICE is the GPU whose free memory is asked for, or -1 for none.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from typing import Any

from caffebench.launcher.plan import Plan
from caffebench.launcher.solverfile import data_layers, parse_solver

__all__ = ["GpuLoad", "memory_note", "training_bytes"]

_HISTORIES = {"SGD": 1, "Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "AdaDelta": 2, "Adam": 2}
_CUDNN_STREAMS = 3  # a group of a convolution (cudnn_conv_layer.cpp)
_CUDNN_LIMIT = 8 * 2**20
_FLOAT = 4


def memory_note(plan: Plan, device: int) -> str | None:
    """A sentence where ``plan`` needs more memory than is free on the GPU ``device``; None where it fits.

    None too where it cannot be counted: Caffe itself will say then what is wrong.
    """
    found = _ask(plan.solver, device)
    if found is None or found["free"] is None or found["need"] <= found["free"]:
        return None
    return _sentence(plan, device, found["need"], found["free"])


def training_bytes(solver_text: str) -> int | None:
    """An estimate of what training takes on a GPU, in bytes, beside CUDA's own context; None where Caffe refuses."""
    found = _ask(solver_text, -1)
    return None if found is None else int(found["need"])


def _sentence(plan: Plan, device: int, need: int, free: int) -> str:
    solver = parse_solver(plan.solver, plan.prototxt)
    batches = [layer.data_param.batch_size for layer in data_layers(solver, "TRAIN") if layer.HasField("data_param")]
    where = f" at batch {batches[0]}" if batches else ""
    way_out = f"halve batch_size and set iter_size: {2 * solver.iter_size}" if batches else "make the batch smaller"
    return f"{plan.run} needs about {_gib(need)}{where}, and GPU {device} has {_gib(free)} free: {way_out}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


@cache
def _ask(solver_text: str, device: int) -> dict[str, Any] | None:
    environment = dict(os.environ, GLOG_minloglevel="3", OPENBLAS_NUM_THREADS="1")
    command = [sys.executable, "-m", "caffebench.launcher.gpu", str(device)]
    done = subprocess.run(command, input=solver_text, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        return None
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _count(caffe: Any, solver: Any) -> int:
    """Bytes: blobs and gradients, weights, gradients and the solver's history, batches read ahead, workspaces."""
    total = 0
    for phase, training in (("TRAIN", True), ("TEST", False)):
        net = _net(caffe, solver, phase)
        if net is None:
            continue
        data = {
            name for index, kind in enumerate(net.layers) if kind.type.endswith("Data") for name in _tops(net, index)
        }
        for name, blob in net.blobs.items():
            gradient = training and name not in data
            total += blob.count * _FLOAT * (2 if gradient else 1)
        for layer in data_layers(solver, phase):
            ahead = layer.data_param.prefetch if layer.type == "Data" else 0
            total += sum(net.blobs[name].count for name in layer.top) * ahead * _FLOAT
        if training:
            weights = sum({id(blob): blob.count for blobs in net.params.values() for blob in blobs}.values())
            # History, and the one in which the update is worked out (sgd_solver.cpp).
            total += weights * _FLOAT * (2 + _HISTORIES.get(solver.type, 2) + 1)
            if _with_cudnn():
                groups = [
                    layer.convolution_param.group for layer in solver.net_param.layer if "onvolution" in layer.type
                ]
                total += sum(groups) * _CUDNN_STREAMS * _CUDNN_LIMIT
    return total


def _tops(net: Any, index: int) -> Sequence[str]:
    names = list(net.blobs)
    return [names[number] for number in net._top_ids(index)]


def _net(caffe: Any, solver: Any, phase: str) -> Any | None:
    from google.protobuf import text_format

    if phase == "TEST" and not solver.test_iter:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(solver.net_param))
        file.flush()
        return caffe.Net(file.name, getattr(caffe, phase))


def _with_cudnn() -> bool:
    with open("/proc/self/maps") as maps:
        return "libcudnn" in maps.read()


def _free(device: int) -> int | None:
    """Free bytes of a GPU; the context that asking makes is as large as a run's own, so it is not counted again."""
    try:
        runtime = ctypes.CDLL(None)  # linked by Caffe, so it is loaded
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        failed = runtime.cudaSetDevice(device) or runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    except AttributeError:
        return None
    return None if failed else free.value


class GpuLoad:
    """How busy some GPUs are, as NVIDIA's management library says; says nothing where there is none."""

    def __init__(self, gpus: Sequence[int]) -> None:
        """Find the cards: that library numbers them all, CUDA only the visible ones, so they are matched by bus id."""
        self._handles: list[tuple[int, ctypes.c_void_p]] = []
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1") if gpus else None
            driver = ctypes.CDLL("libcuda.so.1") if gpus else None
        except OSError:
            return
        if self._library is None or driver is None or self._library.nvmlInit_v2() != 0 or driver.cuInit(0) != 0:
            return
        for gpu in gpus:
            name, device, handle = ctypes.create_string_buffer(32), ctypes.c_int(), ctypes.c_void_p()
            failed = (
                driver.cuDeviceGet(ctypes.byref(device), gpu)
                or driver.cuDeviceGetPCIBusId(name, len(name), device)
                or self._library.nvmlDeviceGetHandleByPciBusId_v2(name, ctypes.byref(handle))
            )
            if not failed:
                self._handles.append((gpu, handle))

    def line(self) -> str:
        """As in ``GPU 0 87 %, 3.1 of 139.8 GiB``; empty where nothing is known."""
        told = []
        for gpu, handle in self._handles:
            rates, memory = (ctypes.c_uint * 2)(), (ctypes.c_ulonglong * 3)()  # gpu, memory; total, free, used
            assert self._library is not None  # noqa: S101 - for the type checker: there is no handle without it
            if self._library.nvmlDeviceGetUtilizationRates(handle, rates) != 0:
                continue
            if self._library.nvmlDeviceGetMemoryInfo(handle, memory) != 0:
                continue
            told.append(f"GPU {gpu} {rates[0]} %, {memory[2] / 2**30:.1f} of {_gib(memory[0])}")
        return "; ".join(told)


def main() -> None:
    """Count, and print one JSON object: ``need`` and ``free`` in bytes, ``free`` null where no GPU was asked for."""
    from caffebench.engine.pycaffe import import_caffe

    device = int(sys.argv[1])
    solver = parse_solver(sys.stdin.read(), "standard input")
    caffe = import_caffe()
    caffe.set_mode_cpu()
    need = _count(caffe, solver)
    print(json.dumps({"need": need, "free": _free(device) if device >= 0 else None}), flush=True)
    os._exit(0)  # not through the ends of Caffe's data threads


if __name__ == "__main__":
    main()
