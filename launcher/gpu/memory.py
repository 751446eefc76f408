"""What a run will take of a GPU's memory, counted from its net before it starts.

``python -m caffebench.launcher.gpu.memory DEVICE`` is the child process that counts: it reads a solver in text
format from standard input, lets Caffe set its nets up on the CPU, where nothing is allocated before it is used, and
adds up.
DEVICE is the GPU whose free memory is asked for, or -1 for none.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from caffebench.common.caffe_facts import PREFETCHING_LAYERS, SOLVER_HISTORIES
from caffebench.common.isolated import module_command
from caffebench.engine.cards import cuda_driver
from caffebench.launcher.solver.nets import data_layers
from caffebench.launcher.solver.solverfile import parse_solver

__all__ = ["MemoryNeed", "free_bytes", "memory_note", "training_bytes"]

_CUDNN_STREAMS = 3  # a group of a convolution (cudnn_conv_layer.cpp)
_CUDNN_LIMIT = 8  # MiB a stream, unless engine/include/caffe_cudnn.h is told otherwise
_CUDNN_COPIES = 2
"""Of a group's input and output, for which cuDNN wants workspace where the limit is not the smaller of the two.

Seen on an H100 with MobileNetV2 at batch 256: 24.2 GiB taken. With the limit alone 184.7 GiB would be estimated.
"""
_FLOAT = 4


@dataclass(frozen=True)
class MemoryNeed:
    """What was counted, in bytes."""

    need: int
    """Of training, beside CUDA's own context."""
    free: int | None
    """On the GPU; None where none was asked for."""


def memory_note(run: str, solver_text: str, device: int) -> str | None:
    """A sentence where ``run`` needs more memory than is free on the GPU ``device``; None where it fits.

    None too where it cannot be counted: Caffe itself will report then what is wrong.
    """
    found = _ask(solver_text, device)
    if found is None or found.free is None or found.need <= found.free:
        return None
    return _sentence(run, solver_text, device, found.need, found.free)


def training_bytes(solver_text: str) -> int | None:
    """An estimate of what training takes on a GPU, in bytes, beside CUDA's own context; None where Caffe refuses."""
    found = _ask(solver_text, -1)
    return None if found is None else found.need


def _sentence(run: str, solver_text: str, device: int, need: int, free: int) -> str:
    solver = parse_solver(solver_text, run)
    batches = [layer.data_param.batch_size for layer in data_layers(solver, "TRAIN") if layer.HasField("data_param")]
    where = f" at batch {batches[0]}" if batches else ""
    way_out = f"halve batch_size and set iter_size: {2 * solver.iter_size}" if batches else "make the batch smaller"
    return f"{run} needs about {_gib(need)}{where}, and GPU {device} has {_gib(free)} free: {way_out}"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _ask(solver_text: str, device: int) -> MemoryNeed | None:
    environment = dict(os.environ, GLOG_minloglevel="3", OPENBLAS_NUM_THREADS="1")
    command = module_command("caffebench.launcher.gpu.memory", str(device))
    done = subprocess.run(command, input=solver_text, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        return None
    return MemoryNeed(**json.loads(done.stdout.strip().splitlines()[-1]))


def _count(caffe: Any, solver: Any) -> int:
    """Bytes on the GPU: what both nets hold, and the weights with their gradients and the solver's history.

    Caffe allocates a blob's data and its gradient each when it is first used (syncedmem.cpp), so what is counted is
    what a training iteration and a test use.
    """
    total = 0
    for message, training in _nets(solver):
        net = _net(caffe, message, training=training)
        other = caffe.TEST if training else caffe.TRAIN
        messages = {
            one.name: one
            for one in message.layer
            if not any(rule.HasField("phase") and rule.phase == other for rule in one.include)
        }
        total += _activations(net, messages, training=training) * _FLOAT + _workspaces(net, messages)
        if training:
            weights = sum(blob.count for blobs in net.params.values() for blob in blobs)
            signs = solver.regularization_type == "L1"  # sgd_solver.cpp, temp_
            total += weights * _FLOAT * (2 + SOLVER_HISTORIES.get(solver.type, 2) + signs)
    return total


def _nets(solver: Any) -> Iterator[tuple[Any, bool]]:
    """The messages of the nets that Caffe makes, and whether each is the one for training (solver.cpp)."""
    yield (solver.net_param if solver.HasField("net_param") else solver.train_net_param), True
    for message in solver.test_net_param:
        yield message, False
    if solver.HasField("net_param"):
        for _ in solver.test_iter[len(solver.test_net_param) :]:
            yield solver.net_param, False


def _activations(net: Any, messages: dict[str, Any], *, training: bool) -> int:
    """Elements of the blobs between the layers, with gradients if ``training``, and of the layers' own."""
    total = 0
    known: set[str] = set()
    for index, (name, layer) in enumerate(zip(net._layer_names, net.layers, strict=True)):
        message = messages.get(name)  # None for a Split, which Caffe puts in itself
        tops = _names(net, net._top_ids(index))
        made = sum(net.blobs[top].count for top in tops if top not in known)
        known.update(tops)
        if layer.type.endswith("Data"):
            # No gradients. A top is one of the batches read ahead (base_data_layer.cu).
            total += made * (message.data_param.prefetch if message and layer.type in PREFETCHING_LAYERS else 1)
        elif layer.type in ("Flatten", "Reshape"):
            pass  # both are the bottom's
        elif layer.type == "Split":
            total += made if training else 0  # the data is the bottom's
        else:
            total += made * (2 if training else 1)
        if message and tops:
            bottoms = _names(net, net._bottom_ids(index))
            size, out = (net.blobs[(one or tops)[0]].count for one in (bottoms, tops))
            total += _own(message, size, out, in_place=bottoms[:1] == tops[:1], training=training)
    return total


def _own(layer: Any, size: int, out: int, *, in_place: bool, training: bool) -> int:
    """Elements of a layer's own blobs, for those types where they are as large as its bottom or top."""
    if layer.type == "BatchNorm":  # temp_ and x_norm_, whose gradient keeps the top's where that is the bottom
        return size * (2 + (training and in_place))
    if layer.type in ("Scale", "PReLU"):  # the bottom, kept from being overwritten
        return size * in_place
    if layer.type == "Dropout":  # the mask
        return size * training
    if layer.type == "LRN":  # scale_
        return size
    if layer.type == "SoftmaxWithLoss":  # prob_, its gradient for the counts
        return size * 2
    maximum = layer.type == "Pooling" and layer.pooling_param.pool == layer.pooling_param.MAX
    maximum |= layer.type == "Eltwise" and layer.eltwise_param.operation == layer.eltwise_param.MAX
    return out if maximum else 0  # which one it was


def _workspaces(net: Any, messages: dict[str, Any]) -> int:
    """Bytes that convolutions compute in: cuDNN's workspaces, or im2col's columns of one image."""
    limit = int(os.environ.get("CAFFEBENCH_CUDNN_WORKSPACE_MIB", _CUDNN_LIMIT)) * 2**20
    cudnn = _with_cudnn()
    total = 0
    for index, name in enumerate(net._layer_names):
        layer = messages.get(name)
        if layer is None or layer.type not in ("Convolution", "Deconvolution"):
            continue
        settings, weights = layer.convolution_param, net.params[name][0]
        if cudnn and settings.engine != settings.CAFFE:
            ends = [_names(net, ids(index))[0] for ids in (net._bottom_ids, net._top_ids)]
            copies = _CUDNN_COPIES * sum(net.blobs[end].count for end in ends) // settings.group * _FLOAT
            total += min(limit, copies) * _CUDNN_STREAMS * settings.group
        elif max(weights.shape[2:]) > 1 or max(settings.stride, default=1) > 1 or any(settings.pad):
            ends = net._top_ids(index) if layer.type == "Convolution" else net._bottom_ids(index)
            columns = net.blobs[_names(net, ends)[0]]
            pixels = columns.count // (columns.shape[0] * columns.shape[1])
            total += weights.count // weights.shape[0] * settings.group * pixels * _FLOAT
    return total


def _names(net: Any, numbers: Sequence[int]) -> list[str]:
    names = list(net.blobs)
    return [names[number] for number in numbers]


def _net(caffe: Any, message: Any, *, training: bool) -> Any:
    from google.protobuf import text_format

    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(message))
        file.flush()
        return caffe.Net(file.name, caffe.TRAIN if training else caffe.TEST)


def _with_cudnn() -> bool:
    with open("/proc/self/maps") as maps:
        return "libcudnn" in maps.read()


def free_bytes(device: int) -> int | None:
    """Free bytes of a GPU, by its driver; None without one.

    The context that asking makes is about as large as a run's, so it is not counted again.
    """
    driver = cuda_driver()
    if driver is None:
        return None
    card, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    failed = (
        driver.cuDeviceGet(ctypes.byref(card), device)
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), card)
        or driver.cuCtxSetCurrent(context)
        or driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    )
    return None if failed else free.value


def main() -> None:
    """Count, and print a ``MemoryNeed`` as JSON."""
    from caffebench.engine.pycaffe import import_caffe

    device = int(sys.argv[1])
    solver = parse_solver(sys.stdin.read(), "standard input")
    caffe = import_caffe()
    caffe.set_mode_cpu()
    need = _count(caffe, solver)
    print(json.dumps(asdict(MemoryNeed(need, free_bytes(device) if device >= 0 else None))), flush=True)
    os._exit(0)  # not through the ends of Caffe's data threads


if __name__ == "__main__":
    main()
