"""Images a second while training one net: Caffe with and without cuDNN, beside PyTorch, on the same device.

Data layers are replaced by constant blobs of their shape, so that what is measured is the device and not a disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from acceptance.layers import set_device
from acceptance.rows import Row
from acceptance.torch_layers import layers_for_torch
from caffebench.engine.pycaffe import import_caffe
from caffebench.launcher.gpu.memory import free_bytes, training_bytes

__all__ = ["speed_rows", "torch_python"]

_ENGINE_OF = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Pooling": "pooling_param",
    "LRN": "lrn_param",
    "ReLU": "relu_param",
    "Sigmoid": "sigmoid_param",
    "Softmax": "softmax_param",
    "SoftmaxWithLoss": "softmax_param",
    "TanH": "tanh_param",
}
PATIENCE = 20.0  # seconds, after which what was measured is enough
_NO_MEASURE = ("Accuracy", "Silence")


def _solver(path: Path, batch: int, own_kernels: bool) -> Any:
    """The training half of a solver file on constant input, ``own_kernels`` without cuDNN."""
    from google.protobuf import text_format

    from caffebench.engine.locate import caffe_pb2

    messages = caffe_pb2()
    solver = messages.SolverParameter()
    text_format.Parse(path.read_text(), solver)
    layers = [one for one in solver.net_param.layer if not any(rule.phase == messages.TEST for rule in one.include)]
    net = messages.NetParameter(name=solver.net_param.name)
    for layer in layers:
        if layer.type in _NO_MEASURE:
            continue
        added = net.layer.add()
        if layer.type == "Data":
            size = layer.transform_param.crop_size or 127
            added.name, added.type = layer.name, "DummyData"
            added.top.extend(layer.top)
            for shape in ([batch, 3, size, size], [batch])[: len(layer.top)]:
                added.dummy_data_param.shape.add(dim=shape)
            for value in (0.5, 0.0)[: len(layer.top)]:
                added.dummy_data_param.data_filler.add(type="constant", value=value)
            continue
        added.CopyFrom(layer)
        if own_kernels and layer.type in _ENGINE_OF:
            parameter = getattr(added, _ENGINE_OF[layer.type])
            parameter.engine = type(parameter).CAFFE
    solver.net_param.CopyFrom(net)
    for name in (
        "iter_size",
        "test_iter",
        "test_interval",
        "test_initialization",
        "snapshot_prefix",
        "snapshot_after_train",
    ):
        solver.ClearField(name)
    solver.display = solver.snapshot = 0
    solver.snapshot_after_train = False
    return solver


def _measure(path: Path, batch: int, own_kernels: bool, device: str, iterations: int) -> dict[str, float]:
    """Runs in a process of its own: images a second of forward, backward and update; on a GPU its memory too."""
    caffe = import_caffe()
    from google.protobuf import text_format

    set_device(device)
    solver = _solver(path, batch, own_kernels)
    file = path.with_suffix(f".speed{int(own_kernels)}")
    text = text_format.MessageToString(solver)
    file.write_text(text)
    gpu = None if device == "cpu" else int(device.removeprefix("gpu:"))
    before = None if gpu is None else free_bytes(gpu)
    trained = caffe.get_solver(str(file))
    trained.step(max(1, iterations // 5))  # each step ends by reading the loss, so by waiting for the device
    begun, done = time.perf_counter(), 0
    while done < iterations and time.perf_counter() - begun < PATIENCE:
        trained.step(1)
        done += 1
    seconds = time.perf_counter() - begun
    # BatchNorm's are its statistics.
    types = dict(zip(trained.net._layer_names, (layer.type for layer in trained.net.layers), strict=True))
    learnt = [blobs for name, blobs in trained.net.params.items() if types[name] != "BatchNorm"]
    count = sum(blob.count for blobs in learnt for blob in blobs)
    found = {"images": batch * done / seconds, "parameters": count}
    if gpu is not None and before is not None:
        found |= {"taken": before - (free_bytes(gpu) or 0), "estimated": training_bytes(text) or 0}
    return found


def _outside() -> dict[str, str]:
    """The variables for another Python than this one: without what `gpu-travel` sets for ours."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for name in ("LD_LIBRARY_PATH", "PYTHONPATH"):
        if f"OUTER_{name}" in variables:
            variables[name] = variables.pop(f"OUTER_{name}")
    return variables


def torch_python(device: str) -> str | None:
    """A Python that has PyTorch (for this ``device``): ``$TORCH_PYTHON``, this one, or one on the PATH."""
    test = "import torch, sys; sys.exit(not (%r == 'cpu' or torch.cuda.is_available()))" % device  # noqa: UP031
    for candidate in (os.environ.get("TORCH_PYTHON"), sys.executable, "python3", "python"):
        if candidate:
            try:
                if subprocess.run([candidate, "-c", test], capture_output=True, env=_outside()).returncode == 0:
                    return candidate
            except OSError:
                continue
    return None


def _ways(device: str, *, cudnn: bool, every: bool) -> Iterator[tuple[str, bool, dict[str, str]]]:
    """How Caffe is to train: name, whether without cuDNN, variables; without ``every`` only the two that count."""
    tf32, workspace = {"CAFFEBENCH_TF32": "1"}, {"CAFFEBENCH_CUDNN_WORKSPACE_MIB": "256"}
    if device == "cpu":
        yield "fp32", True, {}
        return
    if every or not cudnn:  # without cuDNN depthwise convolutions go image by image and channel by channel
        yield "without cuDNN, fp32", True, {}
        yield "without cuDNN, TF32", True, tf32
    if cudnn:
        yield "with cuDNN, fp32", False, {}
        if every:
            yield "with cuDNN, fp32, 256 MiB workspace", False, workspace
            yield "with cuDNN, TF32", False, tf32
        yield "with cuDNN, TF32, 256 MiB workspace", False, tf32 | workspace


def speed_rows(
    path: Path, device: str, *, batch: int, iterations: int, cudnn: bool, every: bool = True
) -> Iterator[Row]:
    """A row for each of Caffe's and PyTorch's ways to train the net of ``path``; see `_ways`."""
    what = f"{_solver(path, batch, False).net_param.name}, batch {batch}"
    parameters = 0
    for name, own_kernels, variables in _ways(device, cudnn=cudnn, every=every):
        request = json.dumps([str(path), batch, own_kernels, device, iterations])
        found = _child([sys.executable, "-m", "acceptance.speed", request], dict(os.environ, **variables))
        parameters = int(found.get("parameters", 0)) or parameters
        yield _row(f"{what}: Caffe {name}", found)
    python = torch_python(device)
    if python is None:
        none = "no Python with PyTorch for this device (TORCH_PYTHON)"
        yield Row("speed", f"{what}: PyTorch", none, "a number", None if device == "cpu" else False)
        return
    net, images = path.with_suffix(".torch.json"), path.with_suffix(".npy")
    training = _solver(path, batch, False).net_param
    net.write_text(json.dumps(layers_for_torch(training)))
    np.save(images, np.full(list(training.layer[0].dummy_data_param.shape[0].dim), 0.5, np.float32))
    script = Path(__file__).with_name("torch_net.py")
    for precision in ("fp32", "tf32") if device != "cpu" else ("fp32",):
        target = "cpu" if device == "cpu" else device.replace("gpu", "cuda")
        command = [python, str(script), str(net), str(images), target, precision, "1", str(iterations)]
        found = _child(command, _outside())
        if "middle_seconds" in found:
            found["images"] = batch / found["middle_seconds"]
        row = _row(f"{what}: PyTorch {found.get('version', '')}, {precision}", found)
        if parameters and "parameters" in found and int(found["parameters"]) != parameters:
            row = Row("speed", row.what, f"{found['parameters']} parameters", f"{parameters}", False)
        yield row
    images.unlink()


def _child(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        fatal = [line.partition("] ")[2] for line in lines if line.startswith("F") and "] " in line]
        return {"error": [*fatal, lines[-1]][0]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _row(what: str, found: dict[str, Any]) -> Row:
    if "error" in found:
        return Row("speed", what, found["error"], "a number", False)
    memory = ""
    if "taken" in found:
        memory = f", {found['taken'] / 2**30:.1f} GiB (estimated {found['estimated'] / 2**30:.1f})"
    return Row("speed", what, f"{found['images']:,.0f} images/s{memory}")


if __name__ == "__main__":
    file, size, kernels, on, steps = json.loads(sys.argv[1])
    print(json.dumps(_measure(Path(file), size, kernels, on, steps)))
